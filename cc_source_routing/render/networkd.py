"""systemd-networkd: the plan as drop-ins beside the .network file of each NIC.

Why declared natively: networkd deletes rules and routes that it does not know
on a restart and when it configures a link anew (systemd#19106), unless they
stand in its own files.  Equal ones that are in the kernel already it adopts; to
be equal a rule has to have its protocol, ``static`` (`as_declared`).

A rule in a .network file belongs to its link and goes when that link loses its
carrier or configuration; networkd takes equal rules of several files for one and
keeps it as long as one of the links wants it.  The rules of a NIC that has no such
file, since somebody else configures it, therefore stand in the drop-in of every
other: networkd would delete them whenever it configures a link anew.

A file that may match several devices (``Name=en*``) holds only rules there:
they belong to no device, while a route would be given to each of them.

Why gateways are addresses, not ``_dhcp4`` and ``_ipv6ra``: such a route comes
back as ``proto dhcp`` or ``ra`` whatever Protocol= says (measured with 257), so
it could not be known as ours, and networkd and we would each set it right by
turns.  The gain would be small: the rules cannot follow a DHCP address either
(systemd#33540), so a new lease needs a new plan all the same.

What networkd cannot express is completed by the event path, which runs
``source-routing apply`` whenever networkd has changed a link or a lease
(`networkd_events`).

A NIC that is only down, or waits for its address, keeps its drop-in (`waiting`), and
so does one whose file is missing for a moment: without it networkd would be told to
read files that are not there, and let go of the NIC.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterable, List, Optional, Sequence, Tuple

from ..files.write import leftovers
from ..model import (
    OUR_PROTOCOL,
    PROTO_STATIC,
    SCOPE_LINK,
    TABLE_MAIN,
    ConfigFile,
    PlannedNic,
    Route,
    RoutingPlan,
    Rule,
)
from ..plan.rules import STAGES_OF_OTHERS
from ..text.addresses import interface_name
from . import Evidence, units
from .evidence import names, program, systemd_version, text, unit
from .networkd_events import START, STOP, event_files, is_event_unit, owned_events
from .networkd_files import (
    NETWORK_DIRECTORIES,
    NetworkFile,
    interface_index,
    managed_links,
    network_files,
)
from .waiting import waiting_nics

# A function, so that all of it has been read before anything that it runs could read on.
RELOAD_SCRIPT = r"""
main() {
test "$1" = all -o -z "$(ip -o address show dynamic scope global)" || exit 0
# As `ip rule add` takes them.
rules() {
    ip -N "$1" rule show | sed -e 's/:[[:space:]]*/ /' -e 's/ \[detached\]//' \
        -e 's/ \[unresolved\]//' -e 's/ lookup \[l3mdev-table\]/ l3mdev/' \
        -e 's/ ipproto ipproto-/ ipproto /'
}
# Neither networkd's own, which it knows, nor ours.
others() { rules "$1" | grep -v -e ' proto 4$' -e ' proto 83$'; }
missing() { printf '%s\n' "$2" | grep -v -x -F -e "$(rules "$1")"; }
noted4=$(others -4) noted6=$(others -6)
reload() {
    for pause in 1 2 4 8; do networkctl reload && return; sleep $pause; done
    return 1
}
reload || exit
back=0 look=0
while [ $look -lt 50 ]; do
    for family in -4 -6; do
        case $family in -4) noted=$noted4 ;; *) noted=$noted6 ;; esac
        lost=$(missing $family "$noted") || continue
        printf '%s\n' "$lost" | sed 's/^/rule add pref /' | ip $family -force -batch - 2>/dev/null
        back=$((back + $(printf '%s\n' "$lost" | wc -l)))
    done
    look=$((look + 1))
    sleep 0.1
done
[ $back -eq 0 ] || logger -t source-routing -p daemon.notice \
    "systemd-networkd deleted $back rules as it read its files; they are back"
}
main "$@" </dev/null
"""


# Makes networkd read its files.  It configures the links whose files have changed
# anew, which costs a static address nothing, but ends a lease: pings are lost, and
# 252 may then give up the link.  So with dynamic addresses it is left until the
# next start; the kernel is right already, and the event path keeps it so.  Once all of
# ours is gone nobody would, and networkd has to forget it.
#
# And it deletes every rule that stands in none of its files, whosever it is (257), so
# what was there before is put back.
#
# A job of its own: networkctl speaks D-Bus, which is not there yet in cloud-init's
# network stage, and nothing may wait for it there.  Again and again, since 257
# refuses while it is reading them for somebody else, who was there before ours.
# After systemd's own reload, where that is due, too: it has netplan write networkd's files.
# A reload breaks what waits with a script among its arguments (252 escapes each $ as it writes
# the unit down, and leaves it so), hence as input.
RELOAD = (
    *("systemd-run", "--quiet", "--collect", "--no-block"),
    "--description=Tell systemd-networkd of changed source routing",
    f"--property=After=dbus.service systemd-networkd.service {units.SERVICE}",
    f"--property=StandardInputData={base64.b64encode(RELOAD_SCRIPT.encode()).decode()}",
    *("sh", "-s"),
)
RELOAD_ALL = (*RELOAD, "all")
SERVICE = "systemd-networkd.service"
DROP_IN = "50-source-routing.conf"
HEADER = "# Written by source-routing for {}; `source-routing apply` writes it anew.\n"
_HEADER_START, _HEADER_END = HEADER.split("{}")

# The releases that brought a key, systemd.network(5).
SINCE_FAMILY = 243
SINCE_SUPPRESS_PREFIX_LENGTH = 245
SINCE_GROUP = 246
SINCE_SUPPRESS_INTERFACE_GROUP = 250


@dataclass(frozen=True)
class Facts:
    """What of the root the drop-ins depend on."""

    version: Optional[int] = None  # of systemd; None: not found
    files: Tuple[Tuple[str, NetworkFile], ...] = ()  # NIC -> its .network file
    # Drop-ins of an earlier run: (path, content, the NICs that its header names).
    earlier: Tuple[Tuple[str, str, Tuple[str, ...]], ...] = ()

    def file(self, nic: str) -> Optional[NetworkFile]:
        return next((file for name, file in self.files if name == nic), None)

    def has(self, release: int) -> bool:
        """Whether networkd knows what came with `release`; an unknown one is a recent one."""
        return self.version is None or self.version >= release


def available(root: Path) -> Evidence:
    if program(root, "systemd-networkd") is None:
        return Evidence(False, "no systemd-networkd in usr/lib/systemd")
    service = unit(root, SERVICE)
    if service.masked:
        return Evidence(False, f"systemd-networkd is masked ({service.link})")
    links = managed_links(root)
    if links:
        return Evidence(True, f"systemd-networkd configures {links} links (run/systemd/netif)")
    if not service.enabled:
        return Evidence(False, "systemd-networkd is not enabled in any systemd/system/*.wants")
    configured = next(
        (
            f"{directory}/{name}"
            for directory in NETWORK_DIRECTORIES[:2]
            for name in names(root, directory)
            if name.endswith(".network")
        ),
        None,
    )
    if configured is not None:
        return Evidence(True, f"systemd-networkd is enabled ({service.link}) and has {configured}")
    rival = unit(root, "NetworkManager.service")
    if rival.enabled and program(root, "NetworkManager"):
        told = f"no .network file in etc or run, and NetworkManager is enabled ({rival.link})"
        return Evidence(False, told)
    return Evidence(True, f"systemd-networkd is enabled ({service.link})")


def inspect(
    root: Path,
    plan: RoutingPlan,
    index_of: Callable[[str], Optional[int]] = interface_index,
) -> Facts:
    earlier = []
    for path in _drop_ins(root):
        content = text(root, path)
        earlier.append((path, content, _told_nics(content)))
    return Facts(systemd_version(root), network_files(root, plan.nics, index_of), tuple(earlier))


def render(plan: RoutingPlan, facts: Facts) -> Tuple[ConfigFile, ...]:
    return (*drop_ins(plan, facts), *event_files())


def owned(root: Path) -> Tuple[str, ...]:
    return (*_drop_ins(root), *owned_events(root))


def warnings(plan: RoutingPlan, facts: Facts, others: bool = False) -> Tuple[str, ...]:
    """What of the plan the drop-ins cannot hold; `others` may manage NICs as well."""
    told = []
    event_path = "`source-routing apply` after each of its events keeps the rest"
    if plan.nics and not facts.has(SINCE_SUPPRESS_INTERFACE_GROUP):
        told.append(
            f"systemd {facts.version} is older than {SINCE_SUPPRESS_INTERFACE_GROUP}: networkd "
            f"cannot declare all rules; {event_path}"
        )
    for nic in plan.nics:
        file = facts.file(nic.name)
        if file is None:
            if others:
                continue
            told.append(f"{nic.name} has no .network file: networkd does not configure it")
        elif file.shared:
            told.append(
                f"{file.path} may mean other NICs than {nic.name} too, so it gets no routes of "
                f"{nic.name}; {event_path}"
            )
    return tuple(told)


def after(written: Iterable[str], removed: Iterable[str]) -> Tuple[Tuple[str, ...], ...]:
    """Let networkd read its files again, and begin or end the watch."""
    new, gone = tuple(written), tuple(removed)
    commands: List[Tuple[str, ...]] = []
    if any(map(_is_drop_in, (*new, *gone))):
        commands.append(RELOAD_ALL if any(map(is_event_unit, gone)) else RELOAD)
    if any(map(is_event_unit, new)):
        commands.append(START)
    if any(map(is_event_unit, gone)):
        commands.append(STOP)
    return tuple(commands)


def has_drop_in(files: Iterable[ConfigFile]) -> bool:
    return any(_is_drop_in(file.path) for file in files)


def as_declared(plan: RoutingPlan) -> RoutingPlan:
    """`plan` with routes and rules as networkd has them, for the live kernel.

    networkd takes a route that it finds there for its own, flags and all, so one
    that lacks "onlink" would be set again without it (252).  IPv6 routes stay as
    they are: the kernel refuses "onlink" where main knows another way to the
    gateway (ip6_validate_gw in net/ipv6/route.c).

    A rule of another protocol than its own is a foreign one to networkd, though it
    has an equal one in a file, and goes whenever networkd configures a link anew
    (routing_policy_rule_compare_func and link_drop_foreign_config in src/network).
    """
    nics = (
        replace(
            nic,
            routes=tuple(
                route._replace(onlink=True)
                if route.family == 4 and route.gateway is not None
                else route
                for route in nic.routes
            ),
            rules=tuple(
                rule._replace(protocol=PROTO_STATIC)
                if _is_declared(rule, plan) and plan.rule_priority == plan.asked_priority
                else rule
                for rule in nic.rules
            ),
        )
        for nic in plan.nics
    )
    return replace(plan, nics=tuple(nics))


def _is_declared(rule: Rule, plan: RoutingPlan) -> bool:
    """Whether a rule stands in a drop-in: not one that follows somebody else's.

    That may come and go at any time, and each time networkd would have to read its files.
    For the same reason those in drop-ins stand where the stanza has them, also while ours
    in the kernel have moved before a tunnel's.
    """
    return rule.priority - plan.rule_priority not in STAGES_OF_OTHERS


# -- drop-ins --------------------------------------------------------------------


def drop_ins(plan: RoutingPlan, facts: Facts) -> Tuple[ConfigFile, ...]:
    """One drop-in for each .network file of a planned NIC, and those that are kept."""
    by_path: Dict[str, List[PlannedNic]] = {}
    shared = set()
    missing = set()
    for name, file in facts.files:
        nic = plan.nic(name)
        if nic is None or not interface_name(name):
            continue
        if file.missing:
            missing.add(name)
            continue
        path = f"{file.drop_in_directory}/{DROP_IN}"
        by_path.setdefault(path, []).append(nic)
        if file.shared:
            shared.add(path)
    # Those that networkd does not configure.
    strangers = [
        nic for nic in plan.nics if facts.file(nic.name) is None and interface_name(nic.name)
    ]
    files = {
        path: ConfigFile(path, _drop_in(plan, facts, nics, strangers, path in shared))
        for path, nics in by_path.items()
    }
    for path, content in _kept(facts, waiting_nics(plan) | missing):
        files.setdefault(path, ConfigFile(path, content))
    return tuple(files[path] for path in sorted(files))


def _kept(facts: Facts, away: FrozenSet[str]) -> Iterable[Tuple[str, str]]:
    for path, content, nics in facts.earlier:
        if nics and away.issuperset(nics):
            yield path, content


def _drop_in(
    plan: RoutingPlan,
    facts: Facts,
    nics: List[PlannedNic],
    strangers: List[PlannedNic],
    shared: bool,
) -> str:
    sections: List[Tuple[str, Sequence[Tuple[str, str]]]] = []
    if not shared and facts.has(SINCE_GROUP):
        sections.append(("Link", (("Group", str(plan.group)),)))
    moved = plan.asked_priority - plan.rule_priority
    rules = [
        rule._replace(priority=rule.priority + moved)
        for nic in (*nics, *strangers)
        for rule in nic.rules
        if _is_declared(rule, plan)
    ]
    sections += [
        ("RoutingPolicyRule", _rule(rule)) for rule in rules if _is_expressible(rule, facts)
    ]
    if not shared:
        sections += [("Route", _route(route)) for nic in nics for route in nic.routes]
    told = "".join(
        f"\n[{name}]\n" + "".join(f"{key}={value}\n" for key, value in settings)
        for name, settings in sections
    )
    return HEADER.format(" ".join(nic.name for nic in nics)) + told


def _is_expressible(rule: Rule, facts: Facts) -> bool:
    # An unknown key would be ignored and the rule become another one: rather none.
    if rule.suppress_ifgroup is not None and not facts.has(SINCE_SUPPRESS_INTERFACE_GROUP):
        return False
    if rule.suppress_prefixlength is not None and not facts.has(SINCE_SUPPRESS_PREFIX_LENGTH):
        return False
    return facts.has(SINCE_FAMILY) or rule.src is not None


def _rule(rule: Rule) -> Tuple[Tuple[str, str], ...]:
    settings = [("Priority", str(rule.priority)), ("Family", f"ipv{rule.family}")]
    if rule.src is not None:
        settings.append(("From", str(rule.src)))
    if rule.dst is not None:
        settings.append(("To", str(rule.dst)))
    if rule.oif:
        settings.append(("OutgoingInterface", rule.oif))
    if rule.fwmark:
        settings.append(("FirewallMark", f"{rule.fwmark}/{rule.fwmask}"))
    settings.append(("Table", "main" if rule.table == TABLE_MAIN else str(rule.table)))
    if rule.suppress_prefixlength is not None:
        settings.append(("SuppressPrefixLength", str(rule.suppress_prefixlength)))
    if rule.suppress_ifgroup is not None:
        settings.append(("SuppressInterfaceGroup", str(rule.suppress_ifgroup)))
    return tuple(settings)


def _route(route: Route) -> Tuple[Tuple[str, str], ...]:
    settings = [("Destination", str(route.dst)), ("Table", str(route.table))]
    if route.type != "unicast":
        settings.append(("Type", route.type))
    if route.gateway is not None:
        settings.append(("Gateway", str(route.gateway)))
        # Otherwise the kernel refuses the route while the NIC has no address (a lost
        # lease), and networkd then gives the whole link up and starts it anew.
        settings.append(("GatewayOnLink", "yes"))
    if route.family == 4 and route.type == "unicast":
        settings.append(("Scope", "link" if route.scope == SCOPE_LINK else "global"))
    settings += [("Metric", str(route.metric)), ("Protocol", str(OUR_PROTOCOL))]
    return tuple(settings)


def _is_drop_in(path: str) -> bool:
    return path.endswith(f".network.d/{DROP_IN}")


def _drop_ins(root: Path) -> List[str]:
    """Our drop-ins in /etc/systemd/network, by name and header."""
    found = []
    for directory in names(root, "/etc/systemd/network"):
        path = f"/etc/systemd/network/{directory}/{DROP_IN}"
        if not directory.endswith(".network.d"):
            continue
        if text(root, path).startswith(_HEADER_START) or leftovers(root, path):
            found.append(path)
    return found


def _told_nics(content: str) -> Tuple[str, ...]:
    """The NICs that a drop-in of ours names in its header."""
    first = content.partition("\n")[0] + "\n"
    if not (first.startswith(_HEADER_START) and first.endswith(_HEADER_END)):
        return ()
    told = first[len(_HEADER_START) : -len(_HEADER_END)]
    return tuple(name for name in told.split() if interface_name(name))
