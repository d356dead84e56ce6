"""Golden cases: what a renderer writes for a server, as a whole tree (``cases/README.md``).

With SOURCE_ROUTING_UPDATE_CASES=1 the trees are written instead of compared.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, NamedTuple

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


class File(NamedTuple):
    """A file of an expected tree."""

    mode: int
    content: str


Tree = Mapping[str, File]  # by absolute path


def case_names(prefix: str = "") -> list[str]:
    names = sorted(path.parent.name for path in CASES.glob(f"{prefix}*/case.json"))
    assert names, f"no cases {prefix}* in {CASES}"
    return names


def host_name(case: str) -> str:
    return json.loads((CASES / case / "case.json").read_text())["host"]


def document_of(case: str) -> dict[str, Any]:
    """The stanza and the NICs of the case's host."""
    return json.loads((CASES / "hosts" / host_name(case) / "host.json").read_text())


def plan_of(case: str) -> RoutingPlan:
    """The plan for the stanza and the NICs of the case's host."""
    document = document_of(case)
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
    rendered = {file.path: File(file.mode, file.content) for file in files}
    if os.environ.get("SOURCE_ROUTING_UPDATE_CASES") == "1":
        _update(case, rendered)
        return
    wanted = expected(case)
    assert sorted(rendered) == sorted(wanted)
    for path, file in rendered.items():
        own = wanted[path]
        assert (file.mode, file.content.splitlines()) == (own.mode, own.content.splitlines()), path
        assert file.content == own.content, path


def expected(case: str) -> Tree:
    """The whole tree that a case expects."""
    listing = json.loads((CASES / case / "case.json").read_text()).get("expected", {})
    found = {}
    for path, entry in listing.items():
        mode, place = entry.split(" ", 1)
        found[path] = File(int(mode, 8), (CASES / place).read_text())
    return found


def arranged(trees: Mapping[str, Tree]) -> dict[str, str]:
    """Where all that the cases expect is stored, each content once: place -> text.

    A content that one case alone expects lies in its folder; one that several cases of
    one host expect, in the host's; all others in ``shared``.
    """
    users: dict[str, list[tuple[str, str]]] = {}
    for case in sorted(trees):
        for path, file in sorted(trees[case].items()):
            users.setdefault(file.content, []).append((case, path))
    stored: dict[str, str] = {}
    place_of: dict[str, str] = {}
    for content, uses in users.items():
        cases = {case for case, _path in uses}
        hosts = {host_name(case) for case in cases}
        folder = "shared" if len(hosts) > 1 else f"hosts/{min(hosts)}"
        folder = min(cases) if len(cases) == 1 else folder
        # The end of the first path that has it tells what it is.
        place = f"{folder}/{'/'.join(uses[0][1].split('/')[-2:])}"
        while place in stored:
            place += "-other"
        stored[place] = content
        place_of[content] = place
    for case, tree in trees.items():
        listing = {
            path: f"{file.mode:o} {place_of[file.content]}" for path, file in sorted(tree.items())
        }
        document = {"host": host_name(case), "expected": listing}
        stored[f"{case}/case.json"] = json.dumps(document, indent=2) + "\n"
    return stored


def present() -> dict[str, str]:
    """What is stored, as `arranged` has it."""
    return {
        str(path.relative_to(CASES)): path.read_text()
        for path in CASES.rglob("*")
        if path.is_file()
        and path.name not in ("host.json", "README.md")
        and "given" not in path.relative_to(CASES).parts
    }


def _update(case: str, rendered: Tree) -> None:
    with open(Path(__file__)) as lock:  # of workers that run other cases meanwhile
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored = arranged({**{name: expected(name) for name in case_names()}, case: rendered})
        there = present()
        for place in set(there) - set(stored):
            (CASES / place).unlink()
            _remove_if_empty((CASES / place).parent)
        for place, text in set(stored.items()) - set(there.items()):
            (CASES / place).parent.mkdir(parents=True, exist_ok=True)
            (CASES / place).write_text(text)


def _remove_if_empty(directory: Path) -> None:
    if not any(directory.iterdir()):
        directory.rmdir()
