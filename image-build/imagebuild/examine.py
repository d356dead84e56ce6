"""Find faults and warnings from inside an image, with its cloud-init's interpreter; prints JSON.

It is copied there with `inside` and others, and otherwise imports only what the image
has.  cloud-init's own code reads the list, finds the module and calls it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import pkgutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any

# In the image these modules are beside this file, without a package.
if TYPE_CHECKING:
    from . import firstboot, inside, modulelist
else:
    import firstboot
    import inside
    import modulelist

sys.dont_write_bytecode = True
MODULE = modulelist.MODULE
PACKAGE = "cc_source_routing"


def main(only_first_boot: bool = False) -> dict[str, Any]:
    """All findings; with `only_first_boot` those that do not concern our module."""
    findings = first_boot()
    if not only_first_boot:
        findings["faults"] += listing()
        found = module_faults()
        findings["faults"] += found or files_faults() + call_faults()
    return findings


def first_boot() -> dict[str, Any]:
    """Findings on whether cloud-init will run at all, and on what its configuration says."""
    from cloudinit import util

    paths = ["/etc/cloud/cloud.cfg"]
    paths += [f"{modulelist.CONFD}/{name}" for name in sorted(_names(modulelist.CONFD))]
    read = [(path, util.read_conf(path)) for path in paths if path.endswith(".cfg")]
    configs = [(path, content) for path, content in read if isinstance(content, dict)]
    merged = util.read_conf_with_confd("/etc/cloud/cloud.cfg")
    root = firstboot.Root()
    faults, warnings = firstboot.findings(root, configs, merged, is_module)
    own_network = firstboot.leaves_network(root, merged)
    return {"faults": faults, "warnings": warnings, "own_network": own_network}


def is_module(name: str) -> bool:
    """Whether cloud-init finds a module of that name, its own or a third party's."""
    for place in ("cloudinit.config.", ""):
        # A dot in the name would mean a package to import.
        with contextlib.suppress(ImportError):
            if importlib.util.find_spec(f"{place}cc_{name}") is not None:
                return True
    return False


def listing() -> list[str]:
    """Faults in the network stage's module list as cloud-init reads it."""
    from cloudinit import util

    merged = util.read_conf_with_confd("/etc/cloud/cloud.cfg").get("cloud_init_modules")
    names = [modulelist.name(entry) for entry in merged or []]
    faults = []
    if names.count(MODULE) != 1:
        where = "not" if MODULE not in names else "more than once"
        faults.append(f"{MODULE} is {where} in the list of the network stage (cloud_init_modules)")
    ours = [modulelist.MODULES_DROP_IN, modulelist.DEFAULT_DROP_IN]
    own, _later = inside.effective(None, modulelist.MODULES_DROP_IN, ours)
    lost = [name for name in map(modulelist.name, own or []) if name not in names]
    if lost:
        faults.append(f"the list of the network stage has lost {', '.join(lost)}")
    return faults


def module_faults() -> list[str]:
    """Faults that keep cloud-init from loading the module at all."""
    missing = [name for name in inside.NEEDED if not inside.importable(name)]
    faults = [f"cloud-init's Python has no {name}" for name in missing]
    try:
        if not inside.finds(MODULE):
            faults.append(f"cloud-init does not find the module {MODULE}")
    except Exception as error:
        # It would abort the whole stage, with users and SSH keys.
        faults.append(f"importing {PACKAGE} fails: {type(error).__name__}: {error}")
    return faults


def files_faults() -> list[str]:
    """Faults in the files that the module needs when it has a stanza."""
    package = importlib.import_module(PACKAGE)
    faults = []
    for found in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except Exception as error:
            faults.append(f"importing {found.name} fails: {type(error).__name__}: {error}")
    directory = os.path.dirname(str(package.__file__))
    templates = os.path.join(directory, "templates")
    if not [name for name in _names(templates) if name.endswith(".j2")]:
        faults.append(f"{templates} has no templates")
    try:
        with open(os.path.join(directory, "stanza", "stanza.schema.json"), "rb") as handle:
            json.load(handle)
    except (OSError, ValueError) as error:
        faults.append(f"the stanza's schema cannot be read: {error}")
    return faults


def call_faults() -> list[str]:
    """Faults when this release's own code of cloud-init calls the module."""
    from cloudinit.config import modules

    class Cloud:
        datasource = distro = None

        def run(
            self, _name: str, functor: Any, arguments: Any, freq: Any = None
        ) -> tuple[bool, Any]:
            if isinstance(arguments, dict):  # 23.2 and later
                return True, functor(**arguments)
            return True, functor(*arguments)

    class Init:
        def cloudify(self) -> Cloud:
            return Cloud()

    reader = modules.Modules.__new__(modules.Modules)
    reader.init, reader.reporter = Init(), None
    # Disabled, so that the module does not look at the machine on which this runs.
    reader._cached_cfg = {MODULE: False}
    collector = Collector(logging.WARNING)
    logging.getLogger().addHandler(collector)
    try:
        _ran, failures = reader._run_modules(reader._fixup_modules([{"mod": MODULE}]))
    finally:
        logging.getLogger().removeHandler(collector)
    faults = [f"cloud-init's call of {MODULE} fails: {error}" for _name, error in failures]
    return faults or [f"cloud-init's call of {MODULE} logs: {text}" for text in collector.texts]


class Collector(logging.Handler):
    """Collects the messages that are logged at `level` or above."""

    def __init__(self, level: int):
        super().__init__(level)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


if __name__ == "__main__":
    tempfile.tempdir = "/tmp"
    print("\n" + json.dumps(main("first-boot" in sys.argv[1:])))
