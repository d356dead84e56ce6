"""The command `source-routing`: parse the arguments, run one command, return its exit code.

Exit codes: 0 success, 1 a deviation or failure, 2 wrong use or an invalid stanza.
Errors are sentences on standard error; a traceback is a bug.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError, SourceRoutingError, StanzaError, missing_module
from ..model import IPAddress, Stanza
from ..version import VERSION

if TYPE_CHECKING:
    from ..engine import Outcome
    from ..stanza.user_data import LoadedStanza

OK, FAILURE, MISUSE = 0, 1, 2


class _Misuse(Exception):
    """A file named on the command line cannot be read, or its options exclude each other."""


class _NothingToDo(Exception):
    """The given cloud-config has no stanza, or --again finds no earlier apply."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except StanzaError as error:
        for line in error.lines:
            print(f"source-routing: {line}", file=sys.stderr)
        return MISUSE
    except _NothingToDo as error:
        print(f"source-routing: {error}", file=sys.stderr)
        return OK
    except _Misuse as error:
        print(f"source-routing: {error}", file=sys.stderr)
        return MISUSE
    except SourceRoutingError as error:
        print(f"source-routing: {error}", file=sys.stderr)
        return FAILURE
    except PermissionError as error:
        print(f"source-routing: {error.strerror}; this needs root", file=sys.stderr)
        return FAILURE
    except ModuleNotFoundError as error:
        print(f"source-routing: {missing_module(error)}", file=sys.stderr)
        return FAILURE
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe.
        sys.stderr.close()
        return OK
    except KeyboardInterrupt:
        return FAILURE


# -- commands --------------------------------------------------------------------


def _plan(arguments: argparse.Namespace) -> int:
    from .. import engine
    from ..files.write import file_deviations
    from . import views

    view = engine.view(_stanza(arguments), arguments.root, exact=_exact(arguments))
    pending = file_deviations(arguments.root, view.files, view.owned)
    _warn(view.warnings)
    document = {**views.view_json(view), "pending_files": pending}
    _print(arguments, document, views.plan_text(view, pending))
    _demand_templates(view.renderer)
    return OK


def _apply(arguments: argparse.Namespace) -> int:
    from .. import engine
    from . import views

    deadline = time.monotonic() + arguments.wait
    if arguments.again and arguments.config is not None:
        raise _Misuse("--again goes by the saved stanza, --config by another one; give one of them")
    stanza = None if arguments.again else _stanza(arguments)
    while True:
        if stanza is None:
            again = engine.apply_again(arguments.root)
            if again is None:
                raise _NothingToDo("nothing has been applied here, nothing to do")
            outcome = again
        else:
            manner = engine.Manner(exact=_exact(arguments))
            outcome = engine.apply(stanza, arguments.root, manner)
        served = not arguments.interface or outcome.view.plan.nic(arguments.interface) is not None
        if served or not arguments.wait or time.monotonic() >= deadline:
            break
        time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))
    _warn(outcome.view.warnings)
    _print(arguments, views.outcome_json(outcome), views.outcome_text(outcome))
    if arguments.interface and arguments.wait and not served:
        reason = outcome.view.plan.unserved.get(arguments.interface, "no such interface")
        print(f"source-routing: {arguments.interface} is not served: {reason}", file=sys.stderr)
        return FAILURE
    _demand_templates(outcome.view.renderer)
    return OK


def _render(arguments: argparse.Namespace) -> int:
    from .. import engine

    _demand_templates(arguments.renderer)
    view, changes = engine.render_only(_stanza(arguments), arguments.root, arguments.renderer)
    _warn(view.warnings)
    document = {"written": list(changes.written), "removed": list(changes.removed)}
    lines = [f"wrote {path}" for path in changes.written]
    lines += [f"removed {path}" for path in changes.removed]
    _print(arguments, document, "\n".join(lines) or "Nothing to change: all files are as planned.")
    return OK


def _status(arguments: argparse.Namespace) -> int:
    from .. import engine
    from ..host.hand_made import leftovers
    from ..host.second_nic import is_waiting
    from . import views

    view = engine.view(_stanza(arguments), arguments.root, exact=_exact(arguments))
    _warn(view.warnings)
    left = leftovers(arguments.root, view.plan, view.state)
    asked = _asked(arguments)
    waiting = is_waiting(arguments.root)
    lines = [views.status_text(view), *(f"By hand: {what}." for what in left)]
    if waiting:
        lines.append("A second NIC will be served when it comes.")
    if asked is False:
        lines.append(
            "Nothing asks for it any more: the stanza is of an earlier boot or of an `apply`, and "
            "cloud-init's present configuration has none. It stays on until `source-routing "
            "remove`, or source_routing: false in user-data."
        )
    document = {
        **views.view_json(view),
        "by_hand": left,
        "waits_for_second_nic": waiting,
        "asked": asked,
    }
    _print(arguments, document, "\n".join(lines))
    return OK


def _asked(arguments: argparse.Namespace) -> bool | None:
    """Whether the saved stanza is still configured; None if none is enabled, or if unknown."""
    from ..host.cloud_config import still_asked
    from ..host.saved_stanza import saved_stanza

    saved = None if arguments.config is not None else saved_stanza(arguments.root)
    return still_asked(arguments.root) if saved is not None and saved.enabled else None


def _check(arguments: argparse.Namespace) -> int:
    from .. import engine
    from ..host.hand_made import leftovers

    view, found = engine.check(_stanza(arguments), arguments.root, _exact(arguments))
    warnings = [*view.warnings, *leftovers(arguments.root, view.plan, view.state)]
    _warn(warnings)
    count = sum(len(nic.addresses) for nic in view.plan.nics)
    well = f"All is well: {count} managed addresses answer by their own NIC."
    if not count:
        well = f"Nothing is managed here: {view.plan.reason}."
    document = {"ok": not found, "deviations": found, "warnings": warnings}
    _print(arguments, document, "\n".join(found) if found else well)
    _demand_templates(view.renderer)
    return FAILURE if found else OK


def _watch(arguments: argparse.Namespace) -> int:
    from .watch import Line, watch

    def say(line: Line) -> None:
        if arguments.json:
            moment = datetime.fromtimestamp(line.moment, timezone.utc).isoformat()
            print(json.dumps({**line._asdict(), "moment": moment}), flush=True)
            return
        clock = datetime.fromtimestamp(line.moment).strftime("%H:%M:%S.%f")[:-3]
        meaning = f"  ({line.meaning})" if line.meaning else ""
        print(f"{clock}  {line.about:7}  {line.what}{meaning}", flush=True)

    try:
        found = watch(
            lambda: _stanza(arguments), arguments.root, say, arguments.seconds, _exact(arguments)
        )
    except KeyboardInterrupt:
        return OK
    return FAILURE if found else OK


def _follow(arguments: argparse.Namespace) -> int:
    from ..follow.follower import follow
    from . import views

    output = os.fstat(sys.stdout.fileno())
    journal = os.environ.get("JOURNAL_STREAM") == f"{output.st_dev}:{output.st_ino}"

    def say(severity: int, line: str) -> None:
        if arguments.json:
            line = json.dumps({"severity": severity, "what": line})
        elif journal:
            # There a line begins with its severity, sd-daemon(3).
            line = f"<{severity}>{line}"
        # Unbuffered: what nobody takes (no reader, a full disk) is gone, and the work goes on.
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), f"{line}\n".encode("utf-8", "replace"))

    def tell(outcome: Outcome) -> str:
        return views.outcome_text(outcome).rpartition("\n")[2]

    follow(arguments.root, say, tell, arguments.idle)
    return OK


def _explain(arguments: argparse.Namespace) -> int:
    from .. import engine
    from . import views

    stanza = _stanza(arguments)
    view, reply = engine.explain(
        stanza, arguments.root, arguments.source, arguments.to, _exact(arguments)
    )
    facts = views.explain_facts(reply, view)
    _print(arguments, facts, views.explain_text(facts))
    return OK


def _remove(arguments: argparse.Namespace) -> int:
    from .. import engine
    from . import views

    if arguments.files_only:
        removed = list(engine.forget(arguments.root).removed)
        lines = [f"removed {path}" for path in removed]
        text = "\n".join(lines) or "Nothing to remove: there are no files of ours."
        _print(arguments, {"removed": removed}, text)
        return OK
    outcome = engine.remove(arguments.root)
    _print(arguments, views.outcome_json(outcome), views.outcome_text(outcome))
    return OK


def _validate(arguments: argparse.Namespace) -> int:
    try:
        loaded = _load(arguments.file)
    except StanzaError as error:
        faults = [
            {"line": fault.line, "path": fault.path, "message": fault.message}
            for fault in error.faults
        ]
        _print(arguments, {"valid": False, "faults": faults}, "\n".join(error.lines))
        return MISUSE
    found = loaded.stanza is not None
    document = {
        "valid": True,
        "stanza": found,
        "warnings": list(loaded.warnings),
        "kind": loaded.kind,
        "known": not loaded.unknown,
        "unknown": list(loaded.unknown),
        "handed": loaded.handed,
    }
    _print(arguments, document, f"{loaded.path}: {_verdict(loaded)}")
    return OK


def _verdict(loaded: LoadedStanza) -> str:
    """The result of `validate` for a file without faults, as far as cloud-init uses the file."""
    reasons = "; ".join(loaded.unknown)
    if loaded.stanza is None and reasons:
        return f"whether it has a source_routing: key cannot be known from the file: {reasons}"
    if loaded.stanza is None:
        return "no source_routing: key, nothing to validate"
    if reasons:
        return (
            "the stanza that is in the file is valid; what cloud-init makes of it cannot be known "
            f"from the file: {reasons}"
        )
    if loaded.kind == "drop-in":
        return "the stanza is valid, in cloud.cfg.d; user-data begins with #cloud-config"
    return "the stanza is valid"


# -- arguments -------------------------------------------------------------------


def _stanza(arguments: argparse.Namespace) -> Stanza:
    """--config FILE, else the saved stanza, else all defaults unless user-data says "off"."""
    if arguments.config is not None:
        loaded = _load(arguments.config)
        if loaded.stanza is None:
            # As in cloud-init: a missing stanza means no change, not removal.
            reason = _verdict(loaded) if loaded.unknown else "no source_routing: key"
            raise _NothingToDo(f"{loaded.path}: {reason}, nothing to do")
        if loaded.unknown:
            _warn([_verdict(loaded)])
        return loaded.stanza
    from ..host.saved_stanza import saved_stanza

    saved = saved_stanza(arguments.root)
    if saved is not None:
        return saved
    from ..host.cloud_config import is_disabled

    return Stanza(enabled=not is_disabled(arguments.root))


def _exact(arguments: argparse.Namespace) -> bool:
    """Whether to refuse a stanza that contradicts the host: only one given by --config."""
    return arguments.config is not None


def _load(path: Path) -> LoadedStanza:
    """Load the file that the user gave; an unreadable one is wrong use, not a failure."""
    from ..stanza.user_data import load_stanza_file

    try:
        loaded = load_stanza_file(path)
    except FileError as error:
        raise _Misuse(str(error)) from error
    _warn(loaded.warnings)
    return loaded


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="source-routing",
        description="Make every address of a server with several NICs answer by its own NIC.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    _common(parser, top=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        _common(sub, top=False)
        sub.add_argument("--json", action="store_true", help="print JSON, for programs")
        sub.set_defaults(run=run)
        return sub

    command("plan", _plan, "show what would be and what would change; changes nothing")
    sub = command("apply", _apply, "make kernel and files match the plan")
    sub.add_argument(
        "--again",
        action="store_true",
        help="as the last time, and only if there was one (for hooks; without --config)",
    )
    sub.add_argument("--interface", metavar="NIC", help="the NIC this is about (with --wait)")
    sub.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=0.0,
        help="wait up to SECONDS for the NIC to get its address and gateway",
    )
    sub = command("render", _render, "write only the files; the kernel is not touched")
    sub.add_argument("--renderer", required=True, choices=_renderers(), help="whose files")
    command("status", _status, "show NICs, addresses, tables, gateways and their origin, rules")
    command("check", _check, "exit 0 when kernel, files and route lookups are as planned")
    sub = command("watch", _watch, "follow what happens in the kernel and what it means")
    sub.add_argument(
        "--seconds",
        metavar="SECONDS",
        type=_seconds,
        help="end after SECONDS and exit as `check` would (default: go on until Ctrl-C)",
    )
    sub = command("follow", _follow, "keep the last apply true while things happen")
    sub.add_argument(
        "--idle",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="end when nothing has happened for so long (default 30)",
    )
    sub = command("explain", _explain, "show the way a reply takes and what would drop it")
    sub.add_argument("--from", dest="source", metavar="ADDR", type=_address, required=True)
    sub.add_argument("--to", metavar="DEST", type=_address, help="default: somewhere remote")
    sub = command("remove", _remove, "remove everything that it has set up, kernel and files")
    sub.add_argument(
        "--files-only",
        action="store_true",
        help="leave the kernel and the running network manager alone (for cloud-init clean)",
    )
    sub = command("validate", _validate, "check the stanza in a user-data file")
    sub.add_argument("file", metavar="FILE", type=Path)
    return parser


def _common(parser: argparse.ArgumentParser, top: bool) -> None:
    """Add the options allowed both before and after the command; the later one wins."""
    suppressed: Any = argparse.SUPPRESS
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=_directory,
        default=Path("/") if top else suppressed,
        help="where files are read and written (default /)",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=None if top else suppressed,
        help="a stanza or a whole cloud-config (default: the saved one, else auto)",
    )


def _renderers() -> list[str]:
    from ..render import RENDERERS

    return ["auto", *RENDERERS]


def _directory(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such directory")
    return path


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return value


def _address(text: str) -> IPAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def _demand_templates(renderer: str) -> None:
    """Raise `ModuleNotFoundError` if a renderer's files are missing because jinja2 is.

    A run continues without them, since routes until the next link flap are better than none,
    but it must not exit with success.
    """
    if renderer != "none":
        import jinja2  # noqa: F401


def _warn(warnings: Sequence[str]) -> None:
    for warning in dict.fromkeys(warnings):
        print(f"source-routing: warning: {warning}", file=sys.stderr)


def _print(arguments: argparse.Namespace, document: Any, text: str) -> None:
    print(json.dumps(document, indent=2) if arguments.json else text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
