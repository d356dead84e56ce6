"""The only installer: put the package and its registration into a root directory, or remove them.

It tries everything before it writes anything, and a second run changes nothing.  It
writes the module list last, so that an incomplete installation is not registered.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import home, modulelist, payload, wholefile
from .chroot import attempt_in, run_in
from .command import failure
from .errors import BuildError
from .modulelist import CONFD as _CONFD
from .modulelist import DEFAULT_DROP_IN, MODULE, MODULES_DROP_IN, RegistrationError
from .modulelist import name as _name
from .payload import File

PACKAGE = "cc_source_routing"
COMMAND_DIRECTORY = "/usr/bin"

_MISSING = {
    "pyroute2": "python3-pyroute2",
    "jinja2": "python3-jinja2",
    "jsonschema": "python3-jsonschema",
    "yaml": "python3-yaml",
}
_MISSING_BY_PIP = {
    "pyroute2": "pyroute2",
    "jinja2": "Jinja2",
    "jsonschema": "jsonschema",
    "yaml": "PyYAML",
}

# `cloud-init clean` removes only its own files, but the files rendered for one server's
# NICs must not end up in a golden image.  The script leaves the kernel and the network
# manager alone, since the operator's session may depend on them.
_CLEAN_D = "etc/cloud/clean.d"
CLEAN_SCRIPT = b"""\
#!/bin/sh
[ ! -x /usr/bin/source-routing ] || exec /usr/bin/source-routing remove --files-only
"""

# An installation without a package has no dpkg trigger; this hook replaces it.  It does not
# run after unpacking, when cloud-init may be incomplete.
_DPKG_HOOK_D = "etc/dpkg/dpkg.cfg.d"
_DPKG_HOOK = (
    f'post-invoke=[ "$DPKG_HOOK_ACTION" = unpack ] || [ ! -x {payload.REGISTER} ] '
    f"|| {payload.REGISTER} || :\n"
).encode()


class Outcome(NamedTuple):
    """The changes of an installation; none on a second run."""

    written: list[str]
    removed: list[str]
    listed: list[str]  # the module list of the network stage, by name
    warnings: list[str]

    @property
    def changed(self) -> bool:
        return bool(self.written or self.removed)


def install(
    root: Path, default_stanza: str | None = None, checkout: Path = payload.CHECKOUT
) -> Outcome:
    """Install the package into `root` and register its module with the cloud-init there.

    `default_stanza` is cloud-config text for all servers of this image; None keeps an
    existing one.  Raises `BuildError` before anything is changed.
    """
    root = _real_root(root)
    python = home.find(root).python
    facts = _ask(root, python)
    if facts["missing"]:
        raise BuildError(_lacks(root, python, facts))
    text = _module_list(root, facts["modules"])
    _rehearse(root, python, text, default_stanza, checkout)

    site = str(facts["site"])
    wanted = {f"{site}/{name}": file for name, file in payload.modules(checkout).items()}
    for name, file in payload.scripts(python, checkout).items():
        wanted[f"{COMMAND_DIRECTORY}/{name}"] = file
    if default_stanza is not None:
        wanted[f"{_CONFD}/{DEFAULT_DROP_IN}"] = File(default_stanza.encode())
    elif (root / f"{_CONFD}/{DEFAULT_DROP_IN}"[1:]).is_file():
        kept = (root / f"{_CONFD}/{DEFAULT_DROP_IN}"[1:]).read_bytes()
        wanted[f"{_CONFD}/{DEFAULT_DROP_IN}"] = File(kept)
    if (root / _CLEAN_D).is_dir():
        wanted[f"/{_CLEAN_D}/95-source-routing"] = File(CLEAN_SCRIPT, 0o755)
    wanted.update(payload.registration(python))
    if (root / payload.UNITS[1:]).is_dir():
        wanted.update(payload.units(checkout))
    if (root / _DPKG_HOOK_D).is_dir():
        wanted[f"/{_DPKG_HOOK_D}/source-routing"] = File(_DPKG_HOOK)
    if text is not None:
        wanted[f"{_CONFD}/{MODULES_DROP_IN}"] = File(text.encode())
    wanted.update(payload.metadata(site, wanted, checkout))

    removed = _remove(root, [path for path in _recorded(root) if path not in wanted])
    written = [path for path, file in wanted.items() if _put(root, path, file)]
    if written or removed:
        # Hash-based bytecode: the same bytes in each build, and never stale.
        compiling = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
        run_in(root, [python, *compiling, f"{site}/{PACKAGE}"])
    written += _reported("wrote", run_in(root, [payload.REGISTER]))
    warnings = _listening(root, "restart") if written or removed else []
    final = _ask(root, python, text=text, find=True)
    where = final["finds"]
    if not where or not where.startswith(f"{site}/{PACKAGE}/"):
        raise BuildError(f"{root}: cloud-init finds {MODULE} at {where or 'no place'}")
    return Outcome(written, removed, [_name(entry) for entry in final["modules"]], warnings)


def present(root: Path) -> bool:
    """Whether an earlier run has installed the package there."""
    return bool(_recorded(root.resolve()))


def lacking(root: Path) -> list[str]:
    """The Debian names of the packages that `install` needs and `root` lacks."""
    root = _real_root(root)
    python = home.find(root).python
    facts = _ask(root, python)
    if facts["missing"] and facts["alone"]:
        raise BuildError(_lacks(root, python, facts))
    return [_MISSING[name] for name in facts["missing"]]


def _lacks(root: Path, python: str, facts: dict[str, Any]) -> str:
    if facts["alone"]:
        # A virtual environment or a separate Python does not use the distribution's packages.
        wanted = " ".join(_MISSING_BY_PIP[name] for name in facts["missing"])
        return f"{root} lacks modules of {python}: run `{python} -m pip install {wanted}` there"
    wanted = " ".join(_MISSING[name] for name in facts["missing"])
    return f"{root} lacks modules of {python}: install {wanted} there"


def uninstall(root: Path) -> Outcome:
    """Remove everything that `install` has installed."""
    root = _real_root(root)
    recorded = _recorded(root)
    warnings = []
    if recorded:
        # Removes the rendered files and, on the running system, the rules and routes.
        # In another root it runs in an empty network namespace.
        argv = [f"{COMMAND_DIRECTORY}/source-routing", "remove"]
        done = attempt_in(root, argv)
        if done.returncode != 0:
            warnings.append(f"what it had rendered may still be there: {failure(argv, done)}")
        warnings += _listening(root, "stop")
    undone: list[str] = []
    if payload.REGISTER in recorded:
        argv = [payload.REGISTER, "--remove"]
        done = attempt_in(root, argv)
        undone = _reported("removed", done.stdout)
        if done.returncode != 0:
            warnings.append(f"cloud-init may still know of it: {failure(argv, done)}")
    removed = _remove(root, recorded)
    if removed and root == Path("/") and Path("/run/systemd/system").is_dir():
        attempt_in(root, ["systemctl", "daemon-reload"])
    return Outcome([], undone + removed, [], warnings)


def _listening(root: Path, action: str) -> list[str]:
    """Run the program of the same name, by its text: an earlier release has not installed it.

    Returns what has failed.
    """
    text = payload.units()[payload.LISTENING].content.decode()
    argv = ["sh", "-c", text, payload.LISTENING, action]
    # It waits for an apply that runs, and for the lock.
    done = attempt_in(root, argv, timeout=300)
    return [] if done.returncode == 0 else [f"{payload.LISTENING} {action}: {done.reason}"]


def _reported(verb: str, text: str) -> list[str]:
    """The paths that `register` reports as written or removed."""
    lines = [line.split(" ", 1) for line in text.splitlines()]
    return [words[1] for words in lines if words[0] == verb and len(words) == 2]


def _real_root(root: Path) -> Path:
    real = root.resolve()
    if not (real / "etc/cloud/cloud.cfg").is_file():
        raise BuildError(f"{root} has no /etc/cloud/cloud.cfg: no root directory with cloud-init")
    return real


def _ask(
    root: Path,
    python: str,
    *,
    text: str | None = None,
    find: bool = False,
    staging: str | None = None,
) -> dict[str, Any]:
    request = {
        "drop_in": MODULES_DROP_IN,
        "ours": [MODULES_DROP_IN, DEFAULT_DROP_IN],
        "text": text,
        "find": find,
        "module": MODULE,
        "staging": staging,
    }
    code = (Path(__file__).parent / "inside.py").read_text(encoding="utf-8")
    # -B: a query leaves no bytecode behind.
    done = attempt_in(root, [python, "-B", "-", json.dumps(request)], stdin=code)
    if done.returncode != 0:
        raise BuildError(f"asking the cloud-init of {root}: {failure([python], done)}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _module_list(root: Path, entries: Any) -> str | None:
    """The drop-in with our module after the image's own list; None if it is already listed."""
    try:
        return modulelist.drop_in(entries)
    except RegistrationError as error:
        raise BuildError(f"{root}: {error}") from error


def _rehearse(
    root: Path, python: str, text: str | None, stanza: str | None, checkout: Path
) -> None:
    """Try the package, the module list and the stanza in the root, from a scratch directory."""
    with _scratch(root) as scratch:
        for name, file in payload.modules(checkout).items():
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
        inside = f"/{scratch.relative_to(root)}"
        facts = _ask(root, python, text=text, find=True, staging=inside)
        if facts["overridden_by"]:
            names = ", ".join(f"{_CONFD}/{name}" for name in facts["overridden_by"])
            raise BuildError(f"{root}: {names} would replace our list of modules")
        if MODULE not in [_name(entry) for entry in facts["modules"]]:
            raise BuildError(f"{root}: cloud-init would not take {MODULE} into its list")
        for name, file in payload.registration(python).items():
            (scratch / os.path.basename(name)).write_bytes(file.content)
        code = f"import sys; sys.path.insert(0, {inside!r}); import schemafile"
        rehearsal = f"{code}; schemafile.rehearse()"
        done = attempt_in(root, [python, "-B", "-c", rehearsal])
        if done.returncode != 0:
            raise BuildError(f"{root}: {done.reason.split(': ', 1)[-1]}")
        if not facts["finds"]:
            raise BuildError(f"{root}: cloud-init does not find or accept the module {MODULE}")
        if stanza is not None:
            (scratch / "stanza.yaml").write_text(stanza, encoding="utf-8")
            code = (
                f"import sys; sys.path.insert(0, {inside!r}); "
                "from cc_source_routing.cli.main import main; from cloudinit import util; "
                # A drop-in, as cloud-init reads it, is no MIME, archive or patch.
                f"found = {MODULE!r} in (util.read_conf(sys.argv[2]) or {{}}); "
                "sys.exit(main(sys.argv[1:]) or (0 if found else 'no cloud-config with it'))"
            )
            validating = [python, "-B", "-c", code, "validate", f"{inside}/stanza.yaml"]
            done = attempt_in(root, validating)
            if done.returncode != 0:
                raise BuildError(
                    "the default stanza is not valid: "
                    + (done.stdout + done.stderr).strip().replace(f"{inside}/", "")
                )


@contextlib.contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=root / "tmp", prefix="source-routing-") as directory:
        yield Path(directory)


# -- files of the root ---------------------------------------------------------


def _inside(root: Path, path: str) -> Path:
    """The file `path` of `root`; raises if an image's link leads out of the root."""
    target = root / path.lstrip("/")
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
    if root != Path("/") and root not in (parent.resolve(), *parent.resolve().parents):
        raise BuildError(f"{path} leads out of {root}, to {parent.resolve()}")
    return target


def _put(root: Path, path: str, file: File) -> bool:
    """Write one file atomically; False if it is already as wanted."""
    target = _inside(root, path)
    with contextlib.suppress(FileNotFoundError):
        same = not target.is_symlink() and target.read_bytes() == file.content
        if same and target.stat().st_mode & 0o7777 == file.mode:
            return False
    target.parent.mkdir(parents=True, exist_ok=True)
    wholefile.replace(target, file.content, file.mode)
    return True


def _recorded(root: Path) -> list[str]:
    """Absolute paths of what earlier runs have installed, from their RECORD."""
    paths: list[str] = []
    for directory in dist_infos(root):
        with contextlib.suppress(FileNotFoundError):
            if (directory / "INSTALLER").read_text().strip() != payload.INSTALLER:
                raise BuildError(f"{directory}: installed by something else, remove that first")
            record = (directory / "RECORD").read_text(encoding="utf-8")
            paths += [line.rsplit(",", 2)[0] for line in record.splitlines()]
    return paths


def dist_infos(root: Path) -> list[Path]:
    """The .dist-info directory of each release that is installed in `root`."""
    return [
        path for site in home.sites(root) for path in sorted(site.glob(f"{PACKAGE}-*.dist-info"))
    ]


def _remove(root: Path, paths: list[str]) -> list[str]:
    """Remove files, and the package's directories that become empty."""
    removed = []
    directories = set()
    for path in paths:
        target = _inside(root, path)
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
            removed.append(path)
        directories.add(target.parent)
    own = [path for path in directories if _is_own(f"/{path.relative_to(root)}")]
    for directory in sorted(own, key=lambda path: len(path.parts), reverse=True):
        sources = {path.stem for path in directory.glob("*.py")}
        for compiled in directory.glob("__pycache__/*.pyc"):
            if compiled.name.split(".")[0] not in sources:
                compiled.unlink()
        for emptied in (directory / "__pycache__", directory):
            with contextlib.suppress(OSError):
                emptied.rmdir()
    return removed


def _is_own(directory: str) -> bool:
    return f"/{PACKAGE}" in directory or directory in (payload.LIBRARY, payload.WANTS)
