"""Find, inside an image, what keeps cloud-init from working at a server's first boot.

It is copied there with `examine`; standard library only.  It interprets files as
systemd, ds-identify and cloud-init do.  A fault: cloud-init does not run, or gets
nothing from its cloud.  A warning: it runs in another way than most image builders
expect.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable

# In the image these modules are beside this file, without a package.
if TYPE_CHECKING:
    from . import modulelist
else:
    import modulelist

Line = tuple[str, str]  # (path, line) of a file of the boot loader
Config = tuple[str, Mapping[str, Any]]  # (path, content) of cloud.cfg or a drop-in
Kinds = tuple[tuple[str, "re.Pattern[str]"], ...]  # (files, which of their lines)

DISABLED = "/etc/cloud/cloud-init.disabled"
IDENTIFY = "/etc/cloud/ds-identify.cfg"
GENERATOR = "cloud-init-generator"

# Searched in this order (systemd.unit(5)); the last two belong to packages.
UNIT_PLACES = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
# The units that run our module's stage, in all releases; those of hotplug do not.
UNITS = (
    "cloud-init.target",
    "cloud-init-main.service",  # 24.3 and later
    "cloud-init-local.service",
    "cloud-init.service",  # before 24.3
    "cloud-init-network.service",
)

# Boot loader configuration, and its lines with kernel command lines.
MENUS = (
    ("/boot/grub*/grub.cfg", re.compile(r"\s*linux(?:16|efi)?\s")),
    ("/boot/efi/EFI/*/grub.cfg", re.compile(r"\s*linux(?:16|efi)?\s")),
    ("/boot/loader/entries/*.conf", re.compile(r"options\s")),
    ("/boot/efi/loader/entries/*.conf", re.compile(r"options\s")),
    ("/efi/loader/entries/*.conf", re.compile(r"options\s")),
    ("/boot/extlinux/extlinux.conf", re.compile(r"\s*append\s", re.IGNORECASE)),
)
# The sources from which the next kernel or `update-grub` generates it.
SOURCES = (
    ("/etc/default/grub", re.compile(r"\s*(?:export\s+)?GRUB_CMDLINE_LINUX\w*\+?=")),
    ("/etc/default/grub.d/*.cfg", re.compile(r"\s*(?:export\s+)?GRUB_CMDLINE_LINUX\w*\+?=")),
    ("/etc/kernel/cmdline", re.compile("")),
)
VARIABLE = (
    ("/boot/grub*/grubenv", re.compile("kernelopts=")),
    ("/boot/grub*/grub.cfg", re.compile(r"\s*set kernelopts=")),
)
ENTRIES = "/loader/entries/"  # boot loader specification: one file for each entry

# Matched as in systemd's conditions, in ds-identify and in cloud-init's net/cmdline.py.
NEVER_RUNS = re.compile(r"(?<![\w.-])(?:cloud-init|ci\.di\.policy)=disabled(?![\w-])")
NO_NETWORK = re.compile(r"(?<![\w.-])network-config=disabled(?![\w-])")

NO_CLOUD = "cloud-init asks no cloud, so servers get neither user-data nor their network"
ALONE = "cloud-init leaves the network alone"
NOBODY = "a second NIC has its addresses from what the image itself brings, or has none"

MODES = ("disabled", "enabled", "search", "report")  # of ds-identify's policy

LISTS = ("cloud_init_modules", "cloud_config_modules", "cloud_final_modules")
LIMIT = 1 << 20


class Root:
    """Files below a directory: ``/`` within an image, another one in tests."""

    def __init__(self, place: str = "/"):
        self.place = place.rstrip("/")

    def at(self, path: str) -> str:
        return self.place + path

    def matches(self, pattern: str) -> list[str]:
        return sorted(path[len(self.place) :] for path in glob.glob(self.at(pattern)))

    def text(self, path: str) -> str:
        """A regular file's text; "" if it cannot be read."""
        try:
            if os.path.isfile(self.at(path)):  # a pipe would block for ever
                with open(self.at(path), encoding="utf-8", errors="replace") as handle:
                    return handle.read(LIMIT)
        except OSError:
            pass
        return ""

    def off(self, path: str) -> bool:
        """Whether the file masks a unit: it is empty, or a link to /dev/null."""
        place = self.at(path)
        if os.path.islink(place):
            return os.readlink(place) == "/dev/null"
        return os.path.isfile(place) and os.path.getsize(place) == 0


def findings(
    root: Root,
    configs: Sequence[Config],
    merged: Mapping[str, Any],
    known: Callable[[str], bool],
) -> tuple[list[str], list[str]]:
    """(faults, warnings), a sentence each.

    `configs` are cloud.cfg and its drop-ins in reading order, as (path, content);
    `merged` is the configuration that cloud-init merges from them; `known` returns
    whether it has a module of that name.
    """
    faults, warnings = command_line(root)
    faults = switched_off(root) + units(root) + faults + data_sources(root, merged)
    return faults, warnings + network(configs, merged) + frozen_lists(configs, known)


def switched_off(root: Root) -> list[str]:
    faults = []
    if os.path.lexists(root.at(DISABLED)):
        faults.append(f"cloud-init is disabled: {DISABLED} is there")
    return faults


def units(root: Root) -> list[str]:
    """Faults for units of cloud-init that systemd would not start."""
    faults = []
    for name in UNITS:
        if not any(_is_file(root.at(f"{place}/{name}")) for place in UNIT_PLACES[2:]):
            continue  # not in this release, or an alias of another unit
        masks = [f"{place}/{name}" for place in UNIT_PLACES[:2] if root.off(f"{place}/{name}")]
        if masks:
            faults.append(f"cloud-init is disabled: {name} is masked ({masks[0]})")
        elif name.endswith(".service") and not _wanted(root, name):
            faults.append(f"cloud-init is disabled: {name} is not enabled (`systemctl enable` it)")
    mask = f"/etc/systemd/system-generators/{GENERATOR}"
    if root.off(mask) and not _wanted(root, UNITS[0]):
        faults.append(f"cloud-init is disabled: its generator is masked ({mask})")
    return faults


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def _wanted(root: Root, name: str) -> bool:
    identity = root.text("/etc/machine-id").strip()
    if not os.path.exists(root.at("/etc/machine-id")) or identity == "uninitialized":
        return True  # the first boot applies the presets (machine-id(5))
    return any(
        os.path.lexists(directory + "/" + name)
        for place in UNIT_PLACES
        for how in ("wants", "requires", "upholds")
        for directory in glob.glob(root.at(f"{place}/*.{how}"))
    )


def command_line(root: Root) -> tuple[list[str], list[str]]:
    """(faults, warnings) about the kernel command line, which cloud-init reads."""
    menu, later = kernel_lines(root)
    faults, warnings = [], []
    where = "on the kernel command line"
    hits = [path for path, line in menu if NEVER_RUNS.search(line)]
    sources = [path for path, line in later if NEVER_RUNS.search(line)]
    taken = list(_taken(menu))
    if hits and all(NEVER_RUNS.search(line) for line in taken):
        faults.append(f"cloud-init is disabled {where} ({_paths(hits + sources)})")
    elif hits:
        warnings.append(f"some boot entries disable cloud-init {where} ({_paths(hits)})")
    elif sources and menu:
        warnings.append(
            f"the next update of the boot loader disables cloud-init {where} ({_paths(sources)})"
        )
    elif sources:
        faults.append(f"cloud-init is disabled {where} ({_paths(sources)})")
    hits = [path for path, line in menu + later if NO_NETWORK.search(line)]
    if hits:
        warnings.append(f"{ALONE} (network-config=disabled {where}, {_paths(hits)}): {NOBODY}")
    return faults, warnings


def kernel_lines(root: Root) -> tuple[list[Line], list[Line]]:
    """(lines of the boot menu, lines from which later menus are made), each as (path, line)."""
    # Boot entries of RHEL 8 use a variable; grub.cfg has its value if grubenv does not.
    values = [line.split("=", 1)[1] for _path, line in _lines(root, VARIABLE)]
    options = values[0] if values else ""
    menu = [(path, line.replace("$kernelopts", options)) for path, line in _lines(root, MENUS)]
    return menu, _lines(root, SOURCES)


def _taken(menu: list[Line]) -> Iterator[str]:
    """The lines that boot by default: a menu's first, and all entry files except rescue."""
    seen = set()
    for path, line in menu:
        skipped = "rescue" in path if ENTRIES in path else path in seen
        if not skipped:
            yield line
        seen.add(path)


def _lines(root: Root, kinds: Kinds) -> list[Line]:
    return [
        (path, line)
        for pattern, wanted in kinds
        for path in root.matches(pattern)
        for line in root.text(path).splitlines()
        if wanted.match(line) and not line.lstrip().startswith("#")
    ]


def _paths(paths: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(paths))


def data_sources(root: Root, merged: Mapping[str, Any]) -> list[str]:
    """Faults in the choice of data sources."""
    faults = []
    names = merged.get("datasource_list")
    if isinstance(names, list) and names and {_plain(name) for name in names} == {"none"}:
        faults.append(f"datasource_list names None alone: {NO_CLOUD}")
    for line in root.text(IDENTIFY).splitlines():
        key, _colon, value = line.split("#")[0].partition(":")
        value = value.strip().strip("\"'")
        modes = [word for word in value.split(",") if word in MODES]
        if key.strip() == "policy" and modes[-1:] == ["disabled"]:
            faults.append(f"cloud-init is disabled: the policy of {IDENTIFY} is {value}")
        if key.strip() == "datasource" and _plain(value) == "none":
            faults.append(f"{IDENTIFY} names the data source None: {NO_CLOUD}")
    return faults


def _plain(name: object) -> str:
    return str(name).strip().lower()


def leaves_network(root: Root, merged: Mapping[str, Any]) -> bool:
    """Whether cloud-init writes no network configuration, so that the image has its own."""
    menu, _later = kernel_lines(root)
    disabled = _network_of(merged).get("config") == "disabled"
    return disabled or any(NO_NETWORK.search(line) for _path, line in menu)


def _network_of(merged: Mapping[str, Any]) -> Mapping[str, Any]:
    config = merged.get("network")
    if isinstance(config, dict) and isinstance(config.get("network"), dict):
        config = config["network"]
    return config if isinstance(config, dict) else {}


def network(configs: Sequence[Config], merged: Mapping[str, Any]) -> list[str]:
    """Warnings about a network configuration in the image, which overrides that of the cloud."""
    config = _network_of(merged)
    if not config:
        return []
    where = [path for path, content in configs if "network" in content][-1:]
    if config.get("config") == "disabled":
        return [f"{ALONE} (network: {{config: disabled}}, {_paths(where)}): {NOBODY}"]
    return [
        f"{_paths(where)} has the network of every server of this image, "
        "and cloud-init does not ask their cloud for it"
    ]


def frozen_lists(configs: Sequence[Config], known: Callable[[str], bool]) -> list[str]:
    """Warnings about a drop-in that replaces a module list with one for another cloud-init."""
    warnings = []
    for key in LISTS:
        written = [
            (path, [modulelist.name(entry) for entry in content[key]])
            for path, content in configs
            if isinstance(content.get(key), list) and not path.endswith(modulelist.MODULES_DROP_IN)
        ]
        if not written or written[-1][0] == configs[0][0]:
            continue
        path, names = written[-1]
        own = written[0][1] if written[0][0] == configs[0][0] else []
        lost = [name for name in own if name not in names]
        strange = [name for name in names if not known(name)]
        said = [f"it leaves out {', '.join(lost)}"] if lost else []
        said += [f"this cloud-init has no {', '.join(strange)}"] if strange else []
        if said:
            warnings.append(f"{path} replaces the image's own {key}: {'; '.join(said)}")
    return warnings
