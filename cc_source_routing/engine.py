"""One run from end to end, for the command and the cloud-init module.

Stanza in, `observe` -> `decide` -> `build` -> `apply_plan` -> files, result out.  The engine asks
the open questions of a decision.  It holds the lock around everything that changes the host.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple

from . import render
from .errors import ApplyError, DiscoveryError, Fault, FileError
from .files.notify import notify
from .files.owed import forget_owed, read_owed, save_owed
from .files.write import FileChanges, file_deviations, lock, write_files
from .host import second_nic
from .host.earlier_run import (
    PREVIOUS_PATH,
    drop_restored,
    previous_for_next_run,
    save_previous,
)
from .host.instance import is_of_another
from .host.metadata.read import METADATA_PATH, metadata_to_json
from .host.saved_stanza import SAVED_PATHS, STANZA_PATH, saved_files, saved_stanza, saved_text
from .host.snapshot import observe
from .kernel.apply import apply_plan, operations_for
from .kernel.apply import restore as kernel_restore
from .kernel.diff import Operation
from .kernel.router_solicitation import ANSWER_SECONDS, ask_routers
from .kernel.verify import (
    Reply,
    answering,
    deviations,
    gateways_to_ask,
    kernel_rule_deviations,
    main_by_sibling,
    replies,
    reply,
    reply_deviations,
    silent_gateways,
    somewhere,
)
from .model import (
    ConfigFile,
    HostState,
    IPAddress,
    Link,
    Metadata,
    RoutingPlan,
    Stanza,
)
from .plan.build import build
from .plan.decide import Decisions, decide
from .plan.fitting import fit, warning
from .plan.nics import potential_nics
from .render import networkd, units
from .render.common import COMMON_PATHS, common_files

if TYPE_CHECKING:
    from .kernel.netlink import Kernel

ATTEMPTS = 3
PROBE_SECONDS = 1.0  # for an answer to ARP or neighbour discovery


@dataclass(frozen=True)
class View:
    """A host as observed and as planned."""

    stanza: Stanza
    state: HostState
    plan: RoutingPlan
    operations: tuple[Operation, ...]
    files: tuple[ConfigFile, ...] = ()
    owned: tuple[str, ...] = ()
    renderer: str = "none"
    renderer_reason: str = ""
    warnings: tuple[str, ...] = ()
    routerless: tuple[Link, ...] = ()  # links on which no router is known


@dataclass(frozen=True)
class Outcome:
    """What an apply or remove did."""

    view: View
    operations: tuple[Operation, ...] = ()
    files: FileChanges = field(default_factory=lambda: FileChanges((), (), ()))

    @property
    def changed(self) -> bool:
        return bool(self.operations or self.files.written or self.files.removed)


@dataclass(frozen=True)
class Manner:
    """How one run goes about its work."""

    # What cloud-init has of the cloud already; None: read it.
    metadata: Metadata | None = None
    # Save the stanza for later runs, also one that is off if another was saved before.
    save: bool = True
    # Refuse a stanza that contradicts the host; else those parts are left out with a warning.
    exact: bool = True
    # The caller's own connection to the kernel; None: one for this run.
    kernel: Kernel | None = None
    # Whether to take nothing away for now, neither from the kernel nor from the files.
    keeps: Callable[[View], bool] = lambda _view: False
    # Whether to read also the routes on which no plan depends.
    all_routes: bool = False


class NotWritten(FileError):
    """The kernel is as planned, but a file could not be written."""

    def __init__(self, message: str, seen: View):
        self.view = seen
        super().__init__(message)


REMOVAL = Manner(metadata=Metadata(), save=False)


@contextmanager
def _kernel(given: Kernel | None = None) -> Iterator[Kernel]:
    if given is not None:
        yield given
        return
    from .kernel.netlink import Kernel

    with Kernel() as kernel:
        yield kernel


def view(stanza: Stanza, root: Path, exact: bool = True, all_routes: bool = False) -> View:
    """Observe and plan, without changes; `exact` and `all_routes` as in `Manner`."""
    with _kernel() as kernel:
        seen = _view(kernel, stanza, root, Manner(exact=exact, all_routes=all_routes))
        return replace(seen, warnings=(*seen.warnings, *_of_another(root)))


def apply(stanza: Stanza, root: Path, manner: Manner = Manner()) -> Outcome:
    """Make kernel and files match the stanza; a second run changes nothing."""
    with lock(root):
        return _apply(stanza, root, manner)


def apply_again(root: Path, manner: Manner = Manner(exact=False)) -> Outcome | None:
    """Apply the saved stanza, as the previous holder of the lock left it.

    For events: does nothing and returns None if no stanza is saved (any more), since a pending
    event must not restore what `remove` has removed.  State that a snapshot of another server
    brought along is removed.
    """
    with lock(root):
        if is_of_another(root):
            _apply(Stanza(enabled=False), root, replace(REMOVAL, kernel=manner.kernel))
        stanza = saved_stanza(root)
        return None if stanza is None else _apply(stanza, root, manner)


def restore(seen: View, root: Path, kernel: Kernel) -> tuple[Operation, ...] | None:
    """Bring back what of an applied plan is missing in the kernel, without observing the host.

    Returns the operations done, or None, and does nothing, if another stanza is saved by now.
    """
    with lock(root):
        applied = next((f.content for f in seen.files if f.path == STANZA_PATH), None)
        if applied is None or applied != saved_text(root):
            return None
        return kernel_restore(kernel, seen.plan, seen.state)


def _apply(stanza: Stanza, root: Path, manner: Manner) -> Outcome:
    """One run under the lock; state of another server is removed before anything is read."""
    before, owed = None, read_owed(root)
    if stanza.enabled and is_of_another(root):
        before = _run(Stanza(enabled=False), root, replace(REMOVAL, kernel=manner.kernel))
    outcome = _run(stanza, root, manner)
    if before is not None:
        outcome = _after(before, outcome)
    seen = outcome.view
    # Without our files networkd would delete our rules and routes from the kernel.
    kept = (networkd.RELOAD_ALL,) if seen.renderer == "none" and seen.plan.nics else ()
    changes = owed.then(outcome.files)
    failures = _notify_managers(root, changes, but=kept)
    if changes.changed:
        forget_owed(root)
    return replace(outcome, view=replace(seen, warnings=(*seen.warnings, *failures)))


def _after(before: Outcome, then: Outcome) -> Outcome:
    """Merge the outcomes of two runs."""
    removed = {*before.files.removed, *then.files.removed} - set(then.files.written)
    files = then.files._replace(removed=tuple(sorted(removed - set(then.files.unchanged))))
    return replace(then, operations=(*before.operations, *then.operations), files=files)


def _run(stanza: Stanza, root: Path, manner: Manner) -> Outcome:
    def announce(changes: FileChanges) -> None:
        save_owed(root, read_owed(root).then(changes))

    with _kernel(manner.kernel) as kernel:
        for attempt in range(ATTEMPTS):
            seen = _view(kernel, stanza, root, manner, solicit=attempt == 0)
            keep = manner.keeps(seen)
            if keep:
                seen = replace(seen, operations=operations_for(seen.plan, seen.state, keep))
            previous = previous_for_next_run(
                seen.state, seen.plan, seen.operations, seen.routerless
            )
            if seen.plan.nics:
                save_previous(root, previous)
            try:
                operations = apply_plan(kernel, seen.plan, seen.state, seen.operations, keep)
                break
            except ApplyError as error:
                # An interface disappeared, or an answer was lost.  The changes are rolled back;
                # observe again.
                if error.errno not in (errno.ENODEV, errno.ENOBUFS) or attempt == ATTEMPTS - 1:
                    raise
        if keep:
            return Outcome(seen, operations)
        try:
            files = write_files(root, seen.files, seen.owned, announce)
        except FileError as error:
            raise NotWritten(
                f"{error}; the kernel is set up, but a boot will not restore it", seen
            ) from error
        left = drop_restored(previous, seen.plan)
        if seen.plan.nics and left != previous:
            save_previous(root, left)
        return Outcome(seen, operations, files)


def remove(root: Path) -> Outcome:
    """Remove all of our kernel state and files, and nothing else."""
    return apply(Stanza(enabled=False), root, REMOVAL)


def forget(root: Path) -> FileChanges:
    """Remove only the files, before an image of this server is made.

    The kernel and the running network manager stay as they are, for sessions over one of our
    addresses.  Our listening units are stopped.
    """
    with lock(root):
        changes = write_files(root, (), _owned(root))
        _notify_managers(root, changes, but=(networkd.RELOAD, networkd.RELOAD_ALL))
        return changes


def render_only(stanza: Stanza, root: Path, name: str) -> tuple[View, FileChanges]:
    """Write only the files, for the renderer `name`; the kernel is read but not changed."""
    with lock(root):
        seen = view(replace(stanza, renderer=name), root)
        return seen, write_files(root, seen.files, seen.owned)


def check(stanza: Stanza, root: Path, exact: bool = True) -> tuple[View, list[str]]:
    """All deviations of kernel, files and look-ups from the plan.

    `exact` as in `view`.
    """
    with _kernel() as kernel:
        seen = _view(kernel, stanza, root, Manner(exact=exact, all_routes=True))
        found = deviations(seen.operations)
        families = {family for nic in seen.plan.nics for family in nic.gateways}
        found += kernel_rule_deviations(seen.state, sorted(families))
        found += file_deviations(root, seen.files, seen.owned)
        answers = replies(kernel, seen.plan, seen.state)
        found += reply_deviations(answers, seen.plan, seen.state)
        hops = gateways_to_ask(seen.plan, seen.state)
        answered = answering(kernel, seen.state, hops)
        beaten, alone = silent_gateways(seen.plan, seen.state, answered)
        limits = main_by_sibling(answers, seen.plan, seen.state)
        warnings = (*seen.warnings, *_of_another(root), *alone, *limits)
        return replace(seen, warnings=warnings), [*found, *beaten]


def explain(
    stanza: Stanza,
    root: Path,
    source: IPAddress,
    destination: IPAddress | None,
    exact: bool = True,
) -> tuple[View, Reply]:
    """The kernel's route for a packet from one of the host's addresses.

    Raises `DiscoveryError` when no interface has `source`, or the families differ.
    """
    with _kernel() as kernel:
        seen = _view(kernel, stanza, root, Manner(exact=exact, all_routes=True))
        owner = next((a.dev for a in seen.state.addresses if a.ip == source), None)
        routed = next(
            (n.name for n in seen.plan.nics if any(source in prefix for prefix in n.sources)), None
        )
        if owner is None:
            where = f"; what is forwarded from it leaves by {routed}" if routed else ""
            raise DiscoveryError(f"{source} is on no interface here{where}")
        if routed is not None and seen.plan.nic(owner) is None:
            owner = routed
        if destination is None:
            destination = somewhere(seen.state, source.version)
        if destination.version != source.version:
            raise DiscoveryError(f"{source} and {destination} are of different families")
        answer = reply(kernel, seen.plan, seen.state, owner, source, destination)
        if answer.lookup is not None and answer.lookup.gateway is not None:
            hop = answer.lookup.dev, answer.lookup.gateway
            answered = answering(kernel, seen.state, [hop])
            answer = answer._replace(next_hop_answers=answered[hop])
        return seen, answer


def _of_another(root: Path) -> tuple[str, ...]:
    if not is_of_another(root):
        return ()
    return (
        "what is saved here is of another server, of whose snapshot this one was made, and does "
        "not count; the next apply takes it away",
    )


# -- the steps of a run --------------------------------------------------------


class Planned(NamedTuple):
    """A plan, its decisions, and the host's state with all answers."""

    state: HostState
    decisions: Decisions
    plan: RoutingPlan


def plan_with_answers(
    kernel: Kernel, stanza: Stanza, state: HostState, solicit: bool = False
) -> Planned:
    """Decide, ask the open questions, decide again, and plan.

    With `solicit` routers are solicited on links where an advertisement is expected and none is
    known, which may take `ANSWER_SECONDS`.  Raises `StanzaError` as `build` does.
    """
    decisions = decide(stanza, state)
    if solicit and decisions.routerless:
        wait = ANSWER_SECONDS if decisions.should_wait_for_router else 0.0
        state = replace(state, neighbours=ask_routers(kernel, decisions.routerless, wait))
        decisions = decide(stanza, state)
    if decisions.probes:
        probes = kernel.probe(decisions.probes, PROBE_SECONDS)
        state = replace(state, probes={**state.probes, **probes})
        decisions = decide(stanza, state)
    return Planned(state, decisions, build(decisions))


def _view(
    kernel: Kernel, stanza: Stanza, root: Path, manner: Manner, solicit: bool = False
) -> View:
    near = [route.to for entry in stanza.interfaces for route in entry.routes]
    observed = observe(
        kernel,
        root,
        stanza.published_ports,
        manner.metadata,
        None if manner.all_routes else near,
    )

    def planner(wanted: Stanza) -> Planned:
        return plan_with_answers(kernel, _possible(wanted), observed, solicit)

    left_out: tuple[Fault, ...] = ()
    if manner.exact:
        fitting, planned = stanza, planner(stanza)
    else:
        fitting, planned, left_out = fit(stanza, planner)
    state, decisions, plan = planned
    plan = replace(plan, warnings=(*map(warning, left_out), *plan.warnings))
    files, owned, name, reason, warnings = _files(stanza, plan, state, root, manner.save)
    if networkd.has_drop_in(files):
        plan = networkd.as_declared(plan)
    operations = operations_for(plan, state)
    if stanza.enabled and plan.published_ports != stanza.published_ports:
        warnings += ("published_ports needs the command nft (package nftables); going on without",)
    return View(
        fitting,
        state,
        plan,
        operations,
        files,
        owned,
        name,
        reason,
        (*plan.warnings, *warnings),
        decisions.routerless,
    )


def _files(
    stanza: Stanza, plan: RoutingPlan, state: HostState, root: Path, keep: bool
) -> tuple[tuple[ConfigFile, ...], tuple[str, ...], str, str, tuple[str, ...]]:
    """The wanted files, all paths that may be ours, the renderer and why it was chosen."""
    owned = _owned(root)
    saved = saved_files(root, stanza)
    if not stanza.enabled:
        # If nothing was saved, "off" saves nothing.
        kept = saved if keep and saved_text(root) is not None else ()
        return kept, (*owned, PREVIOUS_PATH), "none", plan.reason, ()
    # With one NIC there is nothing to do until a second one comes.  If there were more before, a
    # missing one may return, so everything stays.
    if potential_nics(state) < 2:
        before = saved_text(root)
        if before is None or second_nic.is_waiting(root):
            waiting = second_nic.files(root, before == saved[0].content)
            return (*saved, *waiting), owned, "none", plan.reason, ()
    try:
        name, reason = render.select(stanza.renderer, root)
        warnings: tuple[str, ...] = ()
    except DiscoveryError as error:
        name, reason = "none", str(error)
        warnings = (f"{error}; nothing will restore the routes after a flap or a reboot",)
    module = render.renderer(name)
    facts = module.inspect(root, plan)
    warnings += module.warnings(plan, facts)
    files = [*common_files(plan), *saved]
    if name != "none":
        files += units.follow_files(root)
        warnings += units.warnings(root)
    try:
        files += module.render(plan, facts)
    except ModuleNotFoundError as error:
        # A server that answers until its next flap is better than a dead one.
        warnings += (
            f"{error.name} is missing, so no hooks are written: `ifup` will return without routes",
        )
    if state.metadata.ports:
        files.append(ConfigFile(METADATA_PATH, metadata_to_json(state.metadata)))
    return tuple(files), owned, name, reason, warnings


def _owned(root: Path) -> tuple[str, ...]:
    """All paths that may be ours."""
    own = (*COMMON_PATHS, *SAVED_PATHS, METADATA_PATH, second_nic.WAITING_PATH)
    paths: dict[str, None] = dict.fromkeys((*own, *units.owned(root)))
    for name in render.RENDERERS:
        paths.update(dict.fromkeys(render.renderer(name).owned(root)))
    return tuple(paths)


def _notify_managers(
    root: Path, changes: FileChanges, but: tuple[tuple[str, ...], ...] = ()
) -> list[str]:
    """Notify the running managers whose files have changed; returns what failed.

    The paths identify the manager: removed files may belong to another renderer.
    """
    commands = dict.fromkeys(
        command
        for module in (units, second_nic, *map(render.renderer, render.RENDERERS))
        for command in module.after(changes.written, changes.removed)
        if command not in but
    )
    return notify(root, commands)


def _possible(stanza: Stanza) -> Stanza:
    """The stanza without features that this host lacks; the rest is still applied."""
    if stanza.published_ports and shutil.which("nft") is None:
        return replace(stanza, published_ports=False)
    return stanza
