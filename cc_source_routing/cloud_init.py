"""Run the cloud-init module: apply the stanza, or remove what an earlier one set up.

Guards against exceptions and hangs, and logs the outcome.  Imports as little as
possible until there is work.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from .engine import Outcome

LOG = logging.getLogger("cc_source_routing")
# cloud-init runs all stages in one process without a time limit (24.3+), so a hang
# here would block the boot forever.
TIME_LIMIT_SECONDS = 60.0
SYSTEM_ROOT = Path("/")
SYSFS_NET = Path("/sys/class/net")
SAVED_STANZA = Path("etc/source-routing/stanza.json")


def run(value: Any, cloud: Any, root: Path = SYSTEM_ROOT) -> None:
    """Apply the raw stanza `value` within the time limit; errors are logged.

    None means no stanza: the existing setup stays, unless another instance left it.
    """
    work = _work_for(value, root)
    if work is None:
        return
    failures: list[str] = []
    worker = threading.Thread(
        target=_guarded,
        args=(work, value, cloud, root, failures),
        name="source_routing",
        daemon=True,
    )
    worker.start()
    worker.join(TIME_LIMIT_SECONDS)
    if worker.is_alive():
        LOG.error("source_routing gave up after %d seconds", TIME_LIMIT_SECONDS)
    for failure in failures:
        LOG.error("source_routing: %s", failure)


def count_nics(sysfs: Path = SYSFS_NET) -> int:
    """Count possible NICs without netlink: no loopback, bridge, bridge port or tunnel device."""
    count = 0
    try:
        for entry in sysfs.iterdir():
            virtual = any((entry / mark).exists() for mark in ("bridge", "tun_flags", "brport"))
            if entry.is_dir() and entry.name != "lo" and not virtual:
                count += 1
    except OSError:
        # Unknown does not mean none: leave the decision to the real observation.
        return 2
    return count


def _work_for(value: Any, root: Path) -> Callable[[Any, Any, Path], None] | None:
    """Choose the function to run, with as few imports as possible; None: nothing to do."""
    saved = (root / SAVED_STANZA).exists()
    if value is None or _is_off(value):
        if not saved:
            LOG.debug("no source_routing here, nothing to do")
            return None
        if value is None:
            from .host.instance import is_of_another

            return _remove if is_of_another(root) else None
        return _remove
    if count_nics() > 1:
        return _work
    from .host import second_nic
    from .host.instance import is_of_another

    if not saved:
        return _wait
    if not second_nic.is_waiting(root) or is_of_another(root):
        return _work
    if second_nic.is_known(root, value):
        LOG.debug("one NIC as before, nothing to do until a second one comes")
        return None
    return _wait


def _is_off(value: Any) -> bool:
    return value is False or (isinstance(value, dict) and value.get("enabled") is False)


def _guarded(
    work: Callable[[Any, Any, Path], None],
    value: Any,
    cloud: Any,
    root: Path,
    failures: list[str],
) -> None:
    try:
        work(value, cloud, root)
    except Exception as error:
        from .errors import SourceRoutingError, StanzaError, missing_module

        if isinstance(error, StanzaError):
            for fault in error.faults:
                LOG.error("source_routing stanza: %s", fault)
        elif isinstance(error, ModuleNotFoundError):
            failures.append(missing_module(error))
        elif isinstance(error, (SourceRoutingError, OSError)):
            failures.append(str(error))
        else:
            LOG.exception("source_routing failed; the boot goes on")


def _wait(value: Any, cloud: Any, root: Path) -> None:
    from .host.second_nic import keep

    for warning in keep(root, value):
        LOG.warning("source_routing: %s", warning)
    LOG.info("one NIC: nothing to route until a second one comes")


def _remove(value: Any, cloud: Any, root: Path) -> None:
    from . import engine

    if value is None:
        LOG.info("removing what another server set up: this one is made from its snapshot")
    _log(engine.remove(root))


def _work(value: Any, cloud: Any, root: Path) -> None:
    from . import engine
    from .errors import StanzaError
    from .host.instance import is_of_another
    from .host.metadata.read import read_metadata
    from .stanza.parse import parse_stanza

    try:
        stanza = parse_stanza(value)
    except StanzaError:
        if is_of_another(root):
            engine.remove(root)
        raise
    metadata = None
    try:
        datasource: Any | None = getattr(cloud, "datasource", None)
        metadata = read_metadata(root, datasource)
    except Exception as error:
        LOG.debug("no metadata from cloud-init's datasource: %s", error)
    # Parts of the stanza that do not (or no longer) fit this server must not keep it from
    # answering.
    _log(engine.apply(stanza, root, engine.Manner(metadata, exact=False)))


def _log(outcome: Outcome) -> None:
    for warning in outcome.view.warnings:
        LOG.warning("source_routing: %s", warning)
    for nic in outcome.view.plan.nics:
        for family, gateway in sorted(nic.gateways.items()):
            LOG.info(
                "%s: table %d, IPv%d gateway %s (%s)",
                nic.name,
                nic.table,
                family,
                gateway.ip,
                gateway.reason,
            )
    if outcome.view.plan.reason:
        LOG.info("nothing to route now: %s", outcome.view.plan.reason)
    LOG.info(
        "%d kernel changes, %d files written, %d removed",
        len(outcome.operations),
        len(outcome.files.written),
        len(outcome.files.removed),
    )
