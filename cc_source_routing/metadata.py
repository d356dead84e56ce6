"""What the cloud told about this server's ports, from wherever it can still be read.

Inside cloud-init the datasource object is at hand; a hook or a person at the
command line comes later and finds what cloud-init left on disk.  What that is
(read in the sources; each release's own datasource was made to write its part):

========================================================== ======== ======== ========
cloud-init                                                  22.4.2   25.1.4   26.2
========================================================== ======== ======== ========
/run/cloud-init/instance-data-sensitive.json (root only)     yes      yes      yes
/run/cloud-init/instance-data.json                           yes      yes      yes
/var/lib/cloud/instance/network-config.json                  no       yes      yes
/run/cloud-init/network-config.json (a link to the latter)   no       yes      yes
========================================================== ======== ======== ========

The instance data is written as soon as a datasource is found (local or network
stage), again on every boot, and holds OpenStack's network_data.json as
``ds.network_json``, for the datasources OpenStack and ConfigDrive alike
(sources/__init__.py, persist_instance_data).  ``network-config.json`` (23.4 and
later; stages.py, _write_network_config_json) is the configuration in effect,
of any datasource, written before the network is brought up for the first time;
it stays in the instance's directory while its link in /run is not renewed on
later boots.  Before the local stage has run there is none of these, only what
seeds the ConfigDrive datasource.  ``obj.pkl`` is never read: unpickling runs code.

Whatever is missing or malformed is unknown, and said: the answer is then an
empty `Metadata`, or one with fewer ports, never an exception.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Callable, NamedTuple

from .errors import FileError
from .metadata_ports import Ports, dictionaries
from .model import Metadata
from .netvalues import interface_name, mac_address, shown
from .network_config import parse_network_config
from .network_data import NETWORK_DATA, parse_network_data
from .rootfiles import read_file

__all__ = [
    "SAVED",
    "metadata_from_datasource",
    "metadata_from_json",
    "metadata_to_json",
    "parse_network_config",
    "parse_network_data",
    "read_metadata",
]

SAVED = "/etc/source-routing/metadata.json"
"""Where cloud-init's handler keeps what it saw, for the hooks of later boots."""

_FORMAT = 1

Parser = Callable[[Any, str], Metadata]


class _Place(NamedTuple):
    path: str
    parse: Parser


def _instance_data(doc: Any, source: str) -> Metadata:
    """The part of cloud-init's instance data that tells ports; () for clouds without it."""
    told = doc.get("ds") if isinstance(doc, dict) else None
    network_json = told.get("network_json") if isinstance(told, dict) else None
    return _network_json(network_json, source)


def _network_json(value: Any, source: str) -> Metadata:
    """``network_json``: the decoded document, or what stands for "none" (a string, None)."""
    return parse_network_data(value, source) if isinstance(value, dict) else Metadata()


def _saved(doc: Any, source: str) -> Metadata:
    return _from_document(doc, source)


# In the order in which they are believed; the first that names a port counts.
_PLACES: tuple[_Place, ...] = (
    _Place("/run/cloud-init/instance-data-sensitive.json", _instance_data),
    _Place("/run/cloud-init/instance-data.json", _instance_data),
    _Place("/run/cloud-init/network-config.json", parse_network_config),
    _Place("/var/lib/cloud/instance/network-config.json", parse_network_config),
    _Place("/var/lib/cloud/seed/config_drive/openstack/latest/network_data.json", _network_json),
    _Place("/config-drive/openstack/latest/network_data.json", _network_json),
    _Place(SAVED, _saved),
)


def read_metadata(root: Path, datasource: Any = None) -> Metadata:
    """The ports as told by the first source that names any; its name is in each port.

    The datasource object when one is handed in, then the files of the module's
    table, then what an earlier run saved.  Never raises; warnings of the
    sources that were tried in vain are kept.
    """
    warnings: list[str] = []
    if datasource is not None:
        told = metadata_from_datasource(datasource)
        warnings.extend(told.warnings)
        if told.ports:
            return told
    for place in _PLACES:
        told = _read_place(root, place)
        warnings.extend(told.warnings)
        if told.ports:
            return Metadata(told.ports, tuple(dict.fromkeys(warnings)))
    return Metadata((), tuple(dict.fromkeys(warnings)))


def _read_place(root: Path, place: _Place) -> Metadata:
    try:
        found = read_file(root, place.path)
    except FileError as error:
        return Metadata((), (str(error),))
    if found is None:
        return Metadata()
    try:
        doc = json.loads(found.data)
    except (ValueError, RecursionError) as error:
        return Metadata((), (f"{place.path} is not JSON ({_short(error)}); ignored",))
    return place.parse(doc, place.path)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__


# -- cloud-init's datasource object ----------------------------------------------


def metadata_from_datasource(datasource: Any) -> Metadata:
    """The ports as a cloud-init datasource object tells them; never raises.

    Looked at, without running any code of the object (`inspect.getattr_static`),
    so that nothing is crawled, converted or waited for:

    ``network_json``
        OpenStack and ConfigDrive: the decoded network_data.json; another type
        (cloud-init's ``_unset``, None) stands for "none".
    ``_network_config``
        NoCloud, LXD, Oracle and others: network config v1 or v2, kept by the
        property ``network_config`` once cloud-init itself has asked for it,
        which is before any module runs.
    ``network_config``
        Only where it is a plain attribute.  As a property it is left alone: it
        crawls on some clouds, and on OpenStack it raises for a listed MAC that
        the guest does not have (sources/helpers/openstack.py, convert_net_json).
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
        told = parse(value, source)
        warnings.extend(told.warnings)
        if told.ports:
            return Metadata(told.ports, tuple(dict.fromkeys(warnings)))
    return Metadata((), tuple(dict.fromkeys(warnings)))


def _plain_attribute(thing: Any, name: str) -> Any:
    """An attribute that is there as data; None for a property or one that is computed."""
    try:
        return inspect.getattr_static(thing, name, None)
    except Exception:  # noqa: BLE001 - a foreign object's own machinery, and never fatal
        return None


# -- kept for later ----------------------------------------------------------------


def metadata_to_json(metadata: Metadata) -> str:
    """The ports as text for `SAVED`; warnings are not kept, they were said.

    Nor where they came from: cloud-init's own object at first boot and its file
    later say the same, and that must give the same text.
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


def metadata_from_json(saved: str) -> Metadata:
    """What `metadata_to_json` wrote; whatever is malformed is left out and said."""
    try:
        doc = json.loads(saved)
    except (ValueError, RecursionError, TypeError) as error:
        return Metadata((), (f"saved metadata is not JSON ({_short(error)}); ignored",))
    return _from_document(doc, "saved metadata")


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
