"""Read the cloud's description of this server's ports from all sources that remain.

Inside cloud-init the datasource object is available.  A hook or the command runs later and reads
the files that cloud-init leaves on disk.  These are (read in the sources; each release's own
datasource was made to write its part):

========================================================== ======== ======== ========
cloud-init                                                  22.4.2   25.1.4   26.2
========================================================== ======== ======== ========
/run/cloud-init/instance-data-sensitive.json (root only)     yes      yes      yes
/run/cloud-init/instance-data.json                           yes      yes      yes
/var/lib/cloud/instance/network-config.json                  no       yes      yes
/run/cloud-init/network-config.json (a link to the latter)   no       yes      yes
========================================================== ======== ======== ========

The instance data is written as soon as a datasource is found (local or network stage), again on
every boot.  It has OpenStack's network_data.json as ``ds.network_json``, for the datasources
OpenStack and ConfigDrive alike (sources/__init__.py, persist_instance_data).
``network-config.json`` (23.4 and later; stages.py, _write_network_config_json) is the configuration
in effect, of any datasource or of the image, written before the network is brought up for the first
time.  It stays in the instance's directory, while its link in /run is not renewed on later boots,
and it does not cover ports that are plugged in later.  Before the local stage runs none of these
exist, only the seeds of the ConfigDrive datasource.  ``obj.pkl`` is never read: unpickling runs
code.

So the configuration in effect has precedence, and the cloud's metadata counts for ports that it
does not configure.  If cloud-init's network configuration is disabled, neither is in effect, and
there is no metadata.

Missing or malformed parts are unknown and cause a warning: the result is then an empty `Metadata`,
or one with fewer ports, never an exception.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from ...errors import FileError
from ...files.read import read_file
from ...model import Metadata, MetadataPort
from ...text.addresses import interface_name, mac_address, shown
from .network_config import parse_network_config
from .network_data import NETWORK_DATA, parse_network_data
from .ports import Ports, dictionaries

__all__ = [
    "METADATA_PATH",
    "metadata_from_datasource",
    "metadata_to_json",
    "parse_network_config",
    "parse_network_data",
    "read_metadata",
]

METADATA_PATH = "/etc/source-routing/metadata.json"
"""Where cloud-init's handler saves the ports for the hooks of later boots."""

_FORMAT = 1

Parser = Callable[[Any, str], Metadata]


def _instance_data(doc: Any, source: str) -> Metadata:
    """The ports in cloud-init's instance data; none for clouds without ``network_json``."""
    ds = doc.get("ds") if isinstance(doc, dict) else None
    network_json = ds.get("network_json") if isinstance(ds, dict) else None
    return _network_json(network_json, source)


def _network_json(value: Any, source: str) -> Metadata:
    """``network_json``: the decoded document, or a value that means "none" (a string, None)."""
    return parse_network_data(value, source) if isinstance(value, dict) else Metadata()


# In order of precedence; the first file that names a port counts.
_INSTANCE_DATA = (
    "/run/cloud-init/instance-data-sensitive.json",
    "/run/cloud-init/instance-data.json",
)
_IN_EFFECT = (
    "/run/cloud-init/network-config.json",
    "/var/lib/cloud/instance/network-config.json",
)
_SEEDS = (
    "/var/lib/cloud/seed/config_drive/openstack/latest/network_data.json",
    "/config-drive/openstack/latest/network_data.json",
)
_CMDLINE = "/proc/cmdline"


class _Documents:
    """The decoded JSON files of a root, each read once, and the warnings about them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[str, Any] = {}
        self.warnings: list[str] = []

    def get(self, path: str) -> Any:
        """A file's document; None if it is missing or malformed."""
        if path not in self._read:
            self._read[path] = self._load(path)
        return self._read[path]

    def first(self, paths: Iterable[str], parse: Parser) -> Metadata:
        """The ports of the first file that names any."""
        for path in paths:
            doc = self.get(path)
            found = Metadata() if doc is None else parse(doc, path)
            self.warnings.extend(found.warnings)
            if found.ports:
                return found
        return Metadata()

    def _load(self, path: str) -> Any:
        try:
            found = read_file(self._root, path)
            return None if found is None else json.loads(found.data)
        except FileError as error:
            self.warnings.append(str(error))
        except (ValueError, RecursionError) as error:
            self.warnings.append(f"{path} is not JSON ({_short(error)}); ignored")
        return None


def read_metadata(root: Path, datasource: Any = None) -> Metadata:
    """The ports that cloud-init has configured, and further ones from the cloud's metadata.

    The metadata comes from the datasource object if there is one, then from the files of the
    module's table, then from what an earlier run saved.  Never raises; the warnings of all sources
    tried are kept.
    """
    files = _Documents(root)
    if _is_disabled(root, files, datasource):
        return Metadata((), tuple(files.warnings))
    in_effect = files.first(_IN_EFFECT, parse_network_config)
    cloud = Metadata()
    if datasource is not None:
        cloud = metadata_from_datasource(datasource)
        files.warnings.extend(cloud.warnings)
    if not cloud.ports:
        cloud = files.first(_INSTANCE_DATA, _instance_data)
    if not cloud.ports:
        cloud = files.first(_SEEDS, _network_json)
    ports = (
        _merged(in_effect.ports, cloud.ports) or files.first((METADATA_PATH,), _from_document).ports
    )
    return Metadata(ports, tuple(dict.fromkeys(files.warnings)))


def _merged(
    in_effect: tuple[MetadataPort, ...], cloud: tuple[MetadataPort, ...]
) -> tuple[MetadataPort, ...]:
    """The configured ports, followed by those of the cloud that are not configured.

    A configuration made from the cloud's metadata no longer shows that a static network without a
    gateway is meant to have none.
    """
    same = {_key(port): port for port in cloud}
    ports = [
        replace(port, complete=same[_key(port)].complete)
        if _key(port) in same and _words(same[_key(port)]) == _words(port)
        else port
        for port in in_effect
    ]
    known = {_key(port) for port in in_effect if port.mac}
    return (*ports, *(port for port in cloud if _key(port) not in known))


def _key(port: MetadataPort) -> tuple[str, bool]:
    return port.mac, port.vlan


def _words(port: MetadataPort) -> tuple[frozenset[Any], frozenset[Any]]:
    defaults = frozenset(route for route in port.routes if route.to.prefixlen == 0)
    return frozenset(port.addresses), defaults


def _is_disabled(root: Path, files: _Documents, datasource: Any) -> bool:
    """Whether cloud-init's network configuration is disabled, by the image or the kernel.

    ``network: {config: disabled}`` in cloud.cfg(.d), or ``network-config=disabled`` on the kernel
    command line (cloud-init documentation, "Network configuration sources").
    """
    configs = [_plain_attribute(datasource, "sys_cfg")]
    for path in _INSTANCE_DATA:
        doc = files.get(path)
        if isinstance(doc, dict):
            configs += [doc.get("merged_system_cfg"), doc.get("merged_cfg")]
    for config in configs:
        network = config.get("network") if isinstance(config, dict) else None
        if isinstance(network, dict) and network.get("config") == "disabled":
            return True
    try:
        found = read_file(root, _CMDLINE)
    except FileError:
        return False
    return found is not None and b"network-config=disabled" in found.data.split()


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__


# -- cloud-init's datasource object ----------------------------------------------


def metadata_from_datasource(datasource: Any) -> Metadata:
    """The ports in a cloud-init datasource object; never raises.

    The attributes are read without running any code of the object (`inspect.getattr_static`), so
    that nothing is crawled, converted or waited for:

    ``network_json``
        OpenStack and ConfigDrive: the decoded network_data.json; another type
        (cloud-init's ``_unset``, None) means "none".
    ``_network_config``
        NoCloud, LXD, Oracle and others: network config v1 or v2, stored by the
        property ``network_config`` once cloud-init itself has used it, which is
        before any module runs.
    ``network_config``
        Only if it is a plain attribute.  A property is not evaluated: it crawls
        on some clouds, and on OpenStack it raises for a listed MAC that the guest
        does not have (sources/helpers/openstack.py, convert_net_json).
    """
    sources: tuple[tuple[str, Parser, str], ...] = (
        ("network_json", _network_json, NETWORK_DATA),
        ("_network_config", parse_network_config, ""),
        ("network_config", parse_network_config, ""),
    )
    warnings: list[str] = []
    for attribute, parse, source in sources:
        value = _plain_attribute(datasource, attribute)
        if not isinstance(value, dict):
            continue
        found = parse(value, source)
        warnings.extend(found.warnings)
        if found.ports:
            return Metadata(found.ports, tuple(dict.fromkeys(warnings)))
    return Metadata((), tuple(dict.fromkeys(warnings)))


def _plain_attribute(thing: Any, name: str) -> Any:
    """An attribute that is stored as data; None for a property or a computed one."""
    try:
        return inspect.getattr_static(thing, name, None)
    except Exception:  # noqa: BLE001 - a foreign object's own machinery, and never fatal
        return None


# -- kept for later ----------------------------------------------------------------


def metadata_to_json(metadata: Metadata) -> str:
    """The ports as text for `METADATA_PATH`, without warnings, which were already reported.

    Sources are omitted as well: cloud-init's object at first boot and its file later have the same
    data, which must give the same text.
    """
    doc = {
        "version": _FORMAT,
        "ports": [
            {
                "mac": port.mac,
                "name": port.name,
                "addresses": [str(address) for address in port.addresses],
                "routes": [{"to": str(r.to), "via": str(r.via)} for r in port.routes],
                **({"vlan": True} if port.vlan else {}),
                **({"complete": True} if port.complete else {}),
            }
            for port in metadata.ports
        ],
    }
    return json.dumps(doc, indent=2, sort_keys=True) + "\n"


def _from_document(doc: Any, source: str) -> Metadata:
    ports = Ports(source)
    if not isinstance(doc, dict) or doc.get("version") != _FORMAT:
        ports.warn(f"is not of version {_FORMAT} but {shown(doc)}; ignored")
        return ports.result()
    for number, entry in enumerate(dictionaries(doc.get("ports"), ports, "ports")):
        where = f"ports[{number}]"
        mac, name = mac_address(entry.get("mac")), interface_name(entry.get("name"))
        port = ports.new(mac, name, entry.get("vlan") is True) if mac or name else None
        if port is None:
            ports.warn(f"{where}: neither a MAC nor a name; ignored")
            continue
        port.complete = entry.get("complete") is True
        addresses = entry.get("addresses")
        for address in addresses if isinstance(addresses, list) else ():
            ports.add_address(port, address, None, where)
        for route in dictionaries(entry.get("routes"), ports, f"{where}.routes"):
            ports.add_route(port, route.get("to"), None, route.get("via"), where)
    return ports.result()
