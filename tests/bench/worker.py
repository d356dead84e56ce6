"""The measured part of the benchmark: runs inside the namespace, prints JSON.

``worker.py MODE ROOT CONFIG ...`` in a mount namespace of its own, in which
the root's /etc is laid over the system's, so that hooks find their files where
they expect them.  Modes: hooks, applies, boot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Times = dict[str, list[float]]


def interleaved(
    methods: dict[str, Callable[[], object]],
    rounds: int,
    before: Callable[[], object] = lambda: None,
    limit: float = 60.0,
) -> Times:
    """Seconds of each method, in turn; one that took more than `limit` in sum has had enough."""
    times: Times = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, method in methods.items():
            if sum(times[name]) > limit:
                continue
            before()
            start = time.perf_counter()
            method()
            elapsed = time.perf_counter() - start
            if number or elapsed > limit / 6:  # a short first round only warms the caches
                times[name].append(elapsed)
    return times


# -- hooks ---------------------------------------------------------------------


def hooks(root: Path, config: Path, nic: str, rounds: str) -> Times:
    """Each as its own process, spawned with as little as the kernel allows."""
    lower = f"lowerdir={root / 'etc'}:/etc"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", lower, "/etc"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    # As where systemd listens: no hook starts Python.
    listening = Path("/run/source-routing/look")
    listening.parent.mkdir()
    os.mkfifo(listening)
    hook = root / "etc/network/if-up.d/source-routing"
    lines = plain_lines(config, root, nic)
    plain = Path("/run/plain.batch")
    plain.write_text("".join(f"{line}\n" for line in lines))
    environment = {
        **os.environ,
        "IFACE": nic,
        "MODE": "start",
        "ADDRFAM": "inet",
        "PHASE": "post-up",
        "METHOD": "static",
        "LOGICAL": nic,
    }

    def spawn(*argv: str) -> Callable[[], None]:
        def run() -> None:
            pid = os.posix_spawnp(argv[0], argv, environment, file_actions=_QUIET)
            _pid, status = os.waitpid(pid, 0)
            assert status == 0, f"{argv}: {status}"

        return run

    return interleaved(
        {
            "hook": spawn(str(hook)),
            "seed's script": spawn("/bin/sh", "-e", str(HERE / "seed-hook.sh")),
            "ip -batch": spawn("ip", "-batch", str(plain)),
            "sh -c true": spawn("/bin/sh", "-c", "true"),
        },
        int(rounds),
    )


_NULL = os.open(os.devnull, os.O_RDWR)
_QUIET = [
    (os.POSIX_SPAWN_DUP2, _NULL, 0),
    (os.POSIX_SPAWN_DUP2, _NULL, 1),
    (os.POSIX_SPAWN_DUP2, _NULL, 2),
]


def plain_lines(config: Path, root: Path, nic: str) -> list[str]:
    """One NIC's routes as `ip -batch` takes them: the least that anybody could do."""
    from cc_source_routing import engine
    from cc_source_routing.text.ip_words import describe_route

    planned = engine.view(_stanza(config), root).plan.nic(nic)
    lines = []
    for route in planned.routes:
        told = describe_route(route)
        if route.family == 6:
            told = told.replace("default", "::/0")  # by which ip knows the family
        lines.append(f"route replace {told} proto 83")
    return lines


def _stanza(config: Path) -> Any:
    from cc_source_routing.stanza.user_data import load_stanza_file

    return load_stanza_file(config).stanza


# -- applies -------------------------------------------------------------------


def applies(root: Path, config: Path, rounds: str, with_ndb: str) -> dict[str, object]:
    from pyroute2 import NDB, IPRoute

    from cc_source_routing import engine
    from cc_source_routing.kernel.apply import apply_plan, operations_for
    from cc_source_routing.kernel.netlink import Kernel

    stanza = _stanza(config)
    fresh = engine.view(stanza, root)
    plan, state = fresh.plan, fresh.state
    index = {link.name: link.ifindex for link in state.links}
    kernel = Kernel()
    ipr = IPRoute()

    def whole() -> None:
        engine.apply(stanza, root)

    def planned() -> None:
        apply_plan(kernel, plan, state, operations_for(plan, state))

    def groups() -> None:
        for nic in plan.nics:
            ipr.link("set", index=index[nic.name], group=plan.group)

    def one_by_one() -> None:
        groups()
        for route in plan.routes:
            ipr.route("replace", **_route_keywords(route, index))
        for rule in plan.rules:
            ipr.rule("add", **_rule_keywords(rule))

    def ndb() -> None:
        with NDB(log="off") as database:
            for nic in plan.nics:
                database.interfaces[nic.name].set("group", plan.group).commit()
            for route in plan.routes:
                database.routes.create(**_route_keywords(route, index)).commit()
            for rule in plan.rules:
                database.rules.create(**_rule_keywords(rule)).commit()

    def clean() -> None:
        engine.remove(root)

    methods: dict[str, Callable[[], object]] = {
        "apply, all of it": whole,
        "apply of a ready plan": planned,
        "IPRoute, one by one": one_by_one,
    }
    if with_ndb:
        methods["NDB"] = ndb
    times = interleaved(methods, int(rounds), clean)
    return {"routes": len(plan.routes), "rules": len(plan.rules), "times": times}


def _route_keywords(route: Any, index: dict[str, int]) -> dict[str, Any]:
    keywords: dict[str, Any] = {
        "dst": str(route.dst),
        "table": route.table,
        "proto": route.protocol,
        "scope": route.scope,
        "type": route.type,
        "family": 2 if route.family == 4 else 10,
    }
    if route.dev:
        keywords["oif"] = index[route.dev]
    if route.gateway is not None:
        keywords["gateway"] = str(route.gateway)
    if route.metric:
        keywords["priority"] = route.metric
    return keywords


def _rule_keywords(rule: Any) -> dict[str, Any]:
    keywords: dict[str, Any] = {
        "family": 2 if rule.family == 4 else 10,
        "priority": rule.priority,
        "table": rule.table,
        "FRA_PROTOCOL": rule.protocol,
    }
    if rule.src is not None:
        keywords["src"] = str(rule.src.network_address)
        keywords["src_len"] = rule.src.prefixlen
    if rule.oif:
        keywords["FRA_OIFNAME"] = rule.oif
    if rule.suppress_prefixlength is not None:
        keywords["FRA_SUPPRESS_PREFIXLEN"] = rule.suppress_prefixlength
    if rule.suppress_ifgroup is not None:
        keywords["FRA_SUPPRESS_IFGROUP"] = rule.suppress_ifgroup
    return keywords


# -- boot ----------------------------------------------------------------------


def boot(root: Path, config: Path, what: str) -> dict[str, object]:
    """The stage's added time: what cloud-init has loaded anyway does not count."""
    import argparse  # noqa: F401
    import base64  # noqa: F401
    import copy  # noqa: F401
    import glob  # noqa: F401
    import ipaddress  # noqa: F401
    import logging.handlers  # noqa: F401
    import shlex  # noqa: F401
    import socket  # noqa: F401
    import tempfile  # noqa: F401
    import threading  # noqa: F401
    import urllib.parse  # noqa: F401

    document = json.loads(config.read_text())
    stanzas = {
        "package import": None,
        "no stanza": None,
        "source_routing: false": False,
        "one NIC": True,
        "28 NICs, nothing to change": document["source_routing"],
    }
    cfg: dict[str, Any] = {"hostname": "web1"}
    if stanzas[what] is not None:
        cfg["source_routing"] = stanzas[what]
    start = time.perf_counter()
    import cc_source_routing

    if what != "package import":
        if what in ("one NIC", "28 NICs, nothing to change"):
            # Neither the real sysfs nor the real root is ours to use.
            from cc_source_routing import cloud_init as cloud

            links = root / "sys-class-net"
            if what == "one NIC":
                (links / "lo").mkdir(parents=True, exist_ok=True)
                (links / "ens3").mkdir(exist_ok=True)
                cloud.count_nics.__defaults__ = (links,)
                root /= "one-nic"  # where the first round keeps the stanza
                root.mkdir(exist_ok=True)
            cloud.run.__defaults__ = (root,)
        cc_source_routing.handle("source_routing", cfg, cloud=None, args=[])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "pyroute2": "pyroute2" in sys.modules}


if __name__ == "__main__":
    _script, mode, root_, config_, *options = sys.argv
    modes: dict[str, Callable[..., object]] = {"hooks": hooks, "applies": applies, "boot": boot}
    print(json.dumps(modes[mode](Path(root_), Path(config_), *options)))
