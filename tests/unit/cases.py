"""Golden cases: a folder each with ``input.json`` and the whole expected tree below ``root/``.

Extra and missing files fail.  Files that are the same in every case are links
to the first one's.  With SOURCE_ROUTING_UPDATE_CASES=1 the trees are written
anew instead, for a look at the difference.
"""

from __future__ import annotations

import json
import os
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from cc_source_routing.model import (
    PROTO_BOOT,
    PROTO_KERNEL,
    SCOPE_LINK,
    TABLE_MAIN,
    Address,
    ConfigFile,
    HostState,
    Link,
    Metadata,
    MetadataPort,
    MetadataRoute,
    Route,
    RoutingPlan,
)
from cc_source_routing.plan.build import build_plan
from cc_source_routing.stanza.parse import parse_stanza

CASES = Path(__file__).resolve().parents[1] / "cases"


def case_names(prefix: str) -> list[str]:
    names = sorted(path.parent.name for path in CASES.glob(f"{prefix}*/input.json"))
    assert names, f"no cases {prefix}* in {CASES}"
    return names


def plan_of(case: str) -> RoutingPlan:
    """The plan for the stanza and the host that the case's ``input.json`` tells."""
    document = json.loads((CASES / case / "input.json").read_text())
    return build_plan(parse_stanza(document["source_routing"]), host_of(document))


def host_of(document: dict[str, Any]) -> HostState:
    links = [Link(1, "lo", loopback=True)]
    addresses: list[Address] = []
    routes: list[Route] = []
    ports: list[MetadataPort] = []
    for index, (name, nic) in enumerate(document["nics"].items(), start=2):
        mac = f"fa:16:3e:00:00:{index:02x}"
        links.append(Link(index, name, mac, kind=nic.get("kind", "")))
        for text in nic["addresses"]:
            interface = ip_interface(text)
            addresses.append(Address(name, interface))
            scope = SCOPE_LINK if interface.version == 4 else 0
            routes.append(
                Route(TABLE_MAIN, interface.network, name, protocol=PROTO_KERNEL, scope=scope)
            )
        for text in nic.get("routes", []):
            to, _, via = text.partition(" via ")
            routes.append(
                Route(TABLE_MAIN, ip_network(to), name, ip_address(via), protocol=PROTO_BOOT)
            )
        if "metadata_gateways" in nic:
            ports.append(
                MetadataPort(
                    mac,
                    addresses=tuple(ip_interface(text) for text in nic["addresses"]),
                    routes=tuple(
                        MetadataRoute(
                            ip_network("0.0.0.0/0" if "." in gateway else "::/0"),
                            ip_address(gateway),
                        )
                        for gateway in nic["metadata_gateways"]
                    ),
                    source="network_data.json",
                )
            )
    return HostState(
        links=tuple(links),
        addresses=tuple(addresses),
        routes=tuple(routes),
        metadata=Metadata(tuple(ports)),
    )


def assert_tree(case: str, files: tuple[ConfigFile, ...]) -> None:
    """That `files` are exactly the tree of the case, contents and modes."""
    root = CASES / case / "root"
    if os.environ.get("SOURCE_ROUTING_UPDATE_CASES") == "1":
        _update(case, files)
    wanted = {
        f"/{path.relative_to(root)}": (
            0o755 if path.stat().st_mode & 0o100 else 0o644,
            path.read_text(),
        )
        for path in root.rglob("*")
        if path.is_file()
    }
    rendered = {file.path: (file.mode, file.content) for file in files}
    assert sorted(rendered) == sorted(wanted)
    for path, (mode, content) in rendered.items():
        assert (mode, content.splitlines()) == (wanted[path][0], wanted[path][1].splitlines()), path
        assert content == wanted[path][1], path


def _update(case: str, files: tuple[ConfigFile, ...]) -> None:
    root = CASES / case / "root"
    for path in root.rglob("*"):
        if path.is_symlink() or path.is_file():
            path.unlink()
    first = CASES / case_names(case.split("-")[0])[0] / "root"
    for file in files:
        place = root / file.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        model = first / file.path.lstrip("/")
        if first != root and "/nics/" not in file.path and model.is_file():
            if model.read_text() == file.content:
                place.symlink_to(os.path.relpath(model, place.parent))
                continue
        place.write_text(file.content)
        place.chmod(file.mode)
