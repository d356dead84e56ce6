"""What it costs: hooks, applies, boots without work, lost packets, 28 NICs at once, following.

``python3 tests/bench/bench.py [--quick]`` needs root, pyroute2 and what the
kernel tests need; it works in network namespaces of its own and prints tables
of medians.  All methods of a table are measured in turn, round by round, so
that a slow moment of the machine hits each of them.  Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from lab import Cloud, Driver, Lab, Result, SourceRouting, UdpEcho, nics_in_own_subnets, seed_nics  # noqa: E402
from lab.cloud import version  # noqa: E402
from lab.command import REPOSITORY  # noqa: E402
from lab.hooked import Burst, Hooked  # noqa: E402
from lab.needs import missing_for_lab  # noqa: E402
from lab.netns import reap  # noqa: E402
from lab.waiting import wait_until  # noqa: E402

WORKER = HERE / "worker.py"
BOTH = ["ipv4", "ipv6"]
Row = Sequence[str]


def table(title: str, head: Row, rows: Sequence[Row]) -> None:
    """Print a table whose first column is text and whose others are numbers."""
    widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(len(head))]
    print(f"\n{title}")
    for row in (head, *rows):
        cells = [str(row[0]).ljust(widths[0])]
        cells += [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + "  ".join(cells))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f}" if seconds < 0.1 else f"{seconds * 1000:.0f}"


def ratio(value: float, base: float) -> str:
    return f"{value / base:.3f}"


def server(lab: Lab, count: int) -> None:
    """S with `count` dual-stack NICs; their far ends are in one other namespace."""
    nics = nics_in_own_subnets(count)
    lab.add("S", "P")
    lab.batch(
        "S",
        [
            line
            for number, nic in enumerate(nics)
            for line in (
                f"link add {nic.name} type veth peer name p{number} netns {lab.name('P')}",
                f"link set {nic.name} up",
                *(
                    f"address add {address} dev {nic.name}"
                    + (" nodad" if version(address) == 6 else "")
                    for address in nic.addresses
                ),
            )
        ],
    )
    lab.batch("P", [f"link set p{number} up" for number in range(count)])
    lab.batch("S", [f"route add default via {g} dev {nics[0].name}" for g in nics[0].gateways])


def work(lab: Lab, mode: str, root: Path, config: Path, *options: str) -> dict[str, object]:
    """Run the worker in S with the root's directories mounted over the system's."""
    done = lab.run(
        "S",
        "unshare",
        "--mount",
        sys.executable,
        str(WORKER),
        mode,
        str(root),
        str(config),
        *options,
        timeout=1800,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    return json.loads(done.stdout)


def new_root(directory: Path) -> Path:
    root = directory / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    shutil.copytree("/etc/iproute2", root / "etc/iproute2")
    return root


def hooks(directory: Path, quick: bool) -> None:
    """(a) One NIC's hook, a process each time."""
    rounds = 15 if quick else 60
    rows = []
    for count, families in ((2, ["ipv4"]), (2, BOTH), (8, BOTH), (28, BOTH)):
        what = f"{count} NICs, {' + '.join(families)}"
        with Lab() as lab:
            server(lab, count)
            root, cloud = new_root(directory), Cloud(lab, nics_in_own_subnets(count))
            command = SourceRouting(lab, "S", root)
            command.configure(cloud.stanza(renderer="ifupdown", families=families))
            command.ok("apply")
            (root / "etc/iproute2/rt_tables.d").mkdir(exist_ok=True)
            times = work(lab, "hooks", root, command.config, "ens4", str(rounds))
        base = statistics.median(times["seed's script"])
        for method, samples in times.items():
            middle = statistics.median(samples)
            rows.append(
                (
                    f"{method}, {what}",
                    milliseconds(middle),
                    milliseconds(max(samples)),
                    ratio(middle, base),
                )
            )
    table(
        f"(a) Hook for one known NIC, wall ms of the process, {rounds} rounds",
        ("method", "median", "max", "x seed's"),
        rows,
    )


def applies(directory: Path, quick: bool, counts: Sequence[int] = ()) -> None:
    """(b) The whole of a first apply in one process, and the same objects by other ways."""
    rows = []
    for count in counts or ((2, 8, 28) if quick else (2, 8, 28, 100)):
        rounds = 3 if quick or count > 28 else 11
        with Lab() as lab:
            server(lab, count)
            root, cloud = new_root(directory), Cloud(lab, nics_in_own_subnets(count))
            command = SourceRouting(lab, "S", root)
            command.configure(cloud.stanza(gateway_guess="never"))
            # With 100 NICs NDB takes five minutes: only for who asks for it.
            ndb = "ndb" if counts or count <= 28 else ""
            result = work(lab, "applies", root, command.config, str(rounds), ndb)
        base = statistics.median(result["times"]["IPRoute, one by one"])
        for method, samples in result["times"].items():
            middle = statistics.median(samples)
            rows.append(
                (
                    method,
                    str(count),
                    str(result["routes"]),
                    str(result["rules"]),
                    milliseconds(middle),
                    milliseconds(max(samples)),
                    ratio(middle, base),
                )
            )
    table(
        "(b) Apply in process, dual stack, wall ms without imports",
        ("method", "NICs", "routes", "rules", "median", "max", "x one by one"),
        rows,
    )


def boots(directory: Path, quick: bool) -> None:
    """(c) What cloud-init's stage takes longer because of us."""
    rounds = 5 if quick else 15
    rows = []
    with Lab() as lab:
        server(lab, 28)
        cloud = Cloud(lab, nics_in_own_subnets(28))
        command = SourceRouting(lab, "S", new_root(directory))
        command.configure(cloud.stanza(gateway_guess="never"))
        command.ok("apply")
        for what in (
            "package import",
            "no stanza",
            "source_routing: false",
            "one NIC",
            "28 NICs, nothing to change",
        ):
            samples = []
            for _round in range(rounds):
                told = work(lab, "boot", command.root, command.config, what)
                samples.append(told["seconds"])
            rows.append(
                (
                    what,
                    milliseconds(statistics.median(samples)),
                    milliseconds(max(samples)),
                    str(told["pyroute2"]).lower(),
                )
            )
    table(
        f"(c) handle() in a fresh interpreter, added ms, {rounds} rounds",
        ("case", "median", "max", "pyroute2 imported"),
        rows,
    )


def lost(directory: Path, quick: bool) -> None:
    """(d) Packets that get lost while the state is renewed."""
    again = 20 if quick else 100
    rows = []
    with Lab() as lab:
        cloud = Cloud(lab, seed_nics(), rp_filter=1, container=False, hosts=False).build()
        command = SourceRouting(lab, "S", new_root(directory))
        command.configure(cloud.stanza())
        command.configure(cloud.stanza(rule_priority=6000, table_base=700), "other")
        other = command.config
        command.configure(cloud.stanza())
        with Driver(lab, "S") as driver:
            must(driver(*command.argv("apply")))

            def nothing_to_change(_round: int) -> None:
                must(driver(*command.argv("apply")))

            def all_changes(number: int) -> None:
                config = command.config if number % 2 else other
                must(driver("--root", str(command.root), "--config", str(config), "apply"))

            def seed(_round: int) -> None:
                command.lab.run(
                    "S",
                    "unshare",
                    "--mount",
                    "sh",
                    "-c",
                    _SEED,
                    str(command.root),
                    str(HERE / "seed-hook.sh"),
                )

            def flush_and_add(_round: int) -> None:
                lab.batch(
                    "S",
                    [
                        "route flush table 650",
                        "route add 10.13.96.0/19 dev ens4 table 650",
                        "route add default via 10.13.96.1 dev ens4 table 650",
                    ],
                )

            cases: list[tuple[str, Callable[[int], None], int]] = [
                ("apply, nothing to change", nothing_to_change, again),
                ("apply, every table and rule changes", all_changes, again),
            ]
            for name, act, times in cases:
                rows.append(_meter(lab, name, act, times))
            must(driver(*command.argv("remove")))
            lab.batch(
                "S",
                [
                    "rule add from 10.13.96.161 lookup 650",
                    "route add default via 10.13.96.1 dev ens4 table 650",
                ],
            )
            rows.append(_meter(lab, "flush + add in one ip -batch", flush_and_add, again))
            lab.batch("S", ["rule del from 10.13.96.161 lookup 650", "route flush table 650"])
            (command.root / "etc/iproute2/rt_tables.d").mkdir(exist_ok=True)
            names = command.root / "etc/iproute2/rt_tables.d/seed.conf"
            names.write_text("650 ens4\n")
            seed(0)
            rows.append(_meter(lab, "seed's script", seed, max(again // 5, 10)))
    table(
        "(d) UDP echo each 0.2 ms to the second NIC",
        ("while", "times", "sent", "lost", "lost/time", "longest gap ms"),
        rows,
    )


_SEED = 'mount --bind "$0/etc/iproute2" /etc/iproute2 && IFACE=ens4 exec sh -e "$1"'


def must(result: Result) -> None:
    """A measurement of something that failed is none."""
    if result.code:
        raise SystemExit(f"the command failed: {result}")


def _meter(lab: Lab, name: str, act: Callable[[int], None], times: int) -> Row:
    with UdpEcho(lab, "R", "S", "10.13.96.161", 0.2) as meter:
        for number in range(times):
            act(number)
    loss = meter.loss
    return (
        name,
        str(times),
        str(loss.sent),
        str(loss.lost),
        f"{loss.lost / times:.2f}",
        f"{loss.longest_gap_ms:.1f}",
    )


BURST = 28
# What a manager would do in place of our hook, at the least: start a shell that asks once.
PLAIN_HOOK = "sh -c 'exec ip -o address show dev \"$0\" >/dev/null' $nic"


def bursts(directory: Path, quick: bool) -> None:
    """(e) What our hooks add to a boot, from the first NIC to the last."""
    rounds = 3 if quick else 9
    nics = nics_in_own_subnets(BURST)
    names = [nic.name for nic in nics]
    rows = []
    for at_once in (False, True):
        seen: dict[str, list[Burst]] = {}
        with Lab() as lab:
            server(lab, BURST)
            command = SourceRouting(lab, "S", new_root(directory))
            stanza = Cloud(lab, nics).stanza(renderer="ifupdown", gateway_guess="never")
            command.configure(stanza)
            command.ok("apply")
            with_systemd, without = Hooked(command, True), Hooked(command, False)
            for _round in range(rounds):
                absent = with_systemd.burst(names, at_once, PLAIN_HOOK)
                seen.setdefault("an empty shell and one ip", []).append(absent)
                with_systemd.forget()
                seen.setdefault("replayed", []).append(with_systemd.burst(names, at_once))
                with_systemd.forget()
                for path in (command.root / "etc/source-routing/nics").iterdir():
                    path.unlink()
                unknown = without.burst(names, at_once)
                seen.setdefault("no NIC is known, no systemd", []).append(unknown)
            command.ok("check")
        base = statistics.median(one.seconds for one in seen["an empty shell and one ip"])
        for what, bursts_seen in seen.items():
            boot = statistics.median(one.seconds for one in bursts_seen)
            settled = statistics.median(one.settled for one in bursts_seen)
            rows.append(
                (
                    f"{'at once' if at_once else 'one by one'}: {what}",
                    f"{boot:.2f}",
                    ratio(boot, base),
                    f"{settled:.2f}",
                    str(max(len(one.applies) for one in bursts_seen)),
                )
            )
    table(
        f"(e) {BURST} dual-stack NICs come up, seconds, {rounds} rounds",
        ("hooks", "boot waits", "x plain", "all is set up", "runs of Python"),
        rows,
    )


def taken_away(table_number: int) -> dict[str, tuple[list[str], list[str]]]:
    """What is taken away: the arguments of ip for that, and those that show what is left."""
    rules = [["-4", "rule", "flush", "protocol", "83"], ["-4", "rule"]]
    flushed = ["route", "flush", "table", str(table_number)]
    group = ["link", "set", "dev", "ens4", "group", "default"]
    return {
        "all IPv4 rules": (rules[0], rules[1]),
        "a table": (["-4", *flushed], ["-4", "route", "show", "table", str(table_number)]),
        "a table of IPv6": (["-6", *flushed], ["-6", "route", "show", "table", str(table_number)]),
        "a link's group": (group, ["-o", "link", "show", "dev", "ens4"]),
    }


def follows(directory: Path, quick: bool) -> None:
    """(f) How long what somebody takes away is missing, and what a routing daemon costs."""
    times = 5 if quick else 20
    rows = []
    with Lab() as lab:
        server(lab, 2)
        root, cloud = new_root(directory), Cloud(lab, nics_in_own_subnets(2))
        command = SourceRouting(lab, "S", root)
        command.configure(cloud.stanza(gateway_guess="never"))
        command.ok("apply")
        command.configure(None)
        follower = command.popen("follow", "--idle", "3600", stdout=subprocess.PIPE)
        lab.ip("S", "-4", "rule", "flush", "protocol", "83")
        assert follower.stdout is not None
        follower.stdout.readline()  # from here on it is awake
        for what, (act, look) in taken_away(501).items():
            spans = []
            for _time in range(times):
                before = lab.ip("S", *look)
                lab.ip("S", *act)
                spans.append(wait_until(lambda: lab.ip("S", *look) == before))  # noqa: B023
                time.sleep(0.3)
            rows.append((what, milliseconds(statistics.median(spans)), milliseconds(max(spans))))
        table(
            f"(f) Missing until a follower that is awake brings it back, ms, {times} times",
            ("taken away", "median", "longest"),
            rows,
        )
        daemon_routes(lab, follower.pid, quick)


def daemon_routes(lab: Lab, pid: int, quick: bool) -> None:
    """What a follower takes while a routing daemon changes 500 of its many routes a second."""
    count, seconds = 200_000, 30 if quick else 120
    before = peak_kilobytes(pid)
    routes = [f"10.{64 + n // 65536}.{n // 256 % 256}.{n % 256}/32" for n in range(count)]
    via = "via 10.100.0.1 proto bird"
    lab.batch("S", [f"route add {route} {via}" for route in routes])
    spent = []
    for _second in range(seconds):
        begun = time.monotonic()
        some = random.sample(routes, 250)
        lab.batch("S", [f"route del {route} {via}" for route in some])
        lab.batch("S", [f"route add {route} {via}" for route in some])
        spent.append(cpu_seconds(pid))
        time.sleep(max(0.0, begun + 1 - time.monotonic()))
    half = seconds // 2
    share = (spent[-1] - spent[half]) / (seconds - half - 1)
    peak = peak_kilobytes(pid)
    rows = [
        (f"{count} routes", f"{share * 100:.1f}", f"{peak / 1024:.0f}", ratio(peak, before)),
    ]
    table(
        "(f) A follower while 500 foreign routes a second change",
        ("host with", "% of one CPU", "peak MB", "x without"),
        rows,
    )


def cpu_seconds(pid: int) -> float:
    """What a process has taken of the CPU so far, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_kilobytes(pid: int) -> int:
    """The most memory that a process has had so far, proc(5)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, no 100 NICs")
    parser.add_argument("--only", choices="abcdef", help="one table")
    parser.add_argument("--nics", type=int, nargs="+", help="numbers of NICs for table b")
    arguments = parser.parse_args()
    missing = missing_for_lab()
    if missing:
        print("missing here: " + ", ".join(missing), file=sys.stderr)
        return 1
    reap()
    with tempfile.TemporaryDirectory(prefix="source-routing-bench-") as directory:
        for letter, part in zip("abcdef", (hooks, applies, boots, lost, bursts, follows)):
            if arguments.only in (None, letter):
                if part is applies:
                    applies(Path(directory), arguments.quick, arguments.nics or ())
                else:
                    part(Path(directory), arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
