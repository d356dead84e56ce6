"""systemd-networkd: the plan as drop-ins beside the .network file of each NIC.

Why native declarations: on a restart and when it reconfigures a link, networkd deletes
rules and routes that its own files do not declare (systemd#19106).  It adopts equal
ones that are already in the kernel; to be equal, a rule must have networkd's protocol,
``static`` (`as_declared`).

A rule in a .network file belongs to its link and is removed when that link loses its
carrier or configuration.  networkd treats equal rules of several files as one, and keeps
it as long as one of the links wants it.  A NIC without such a file is configured by
another program; every other NIC's drop-in declares its rules, since networkd would
otherwise delete them whenever it reconfigures a link.

The drop-in of a file that may match several devices (``Name=en*``) holds only rules:
they belong to no device, while a route would be set on each of the devices.

Why gateways are addresses, not ``_dhcp4`` and ``_ipv6ra``: such a route comes back as
``proto dhcp`` or ``ra`` whatever Protocol= says (measured with 257), so it could not be
recognized as ours, and networkd and this package would keep correcting each other.  The
gain would be small: the rules cannot follow a DHCP address either (systemd#33540), so a
new lease needs a new plan anyway.

What networkd cannot express is completed by the event path (`units`).

A NIC that is only down, or waits for its address, keeps its drop-in (`_waiting`), and so
does one whose .network file is missing for a moment: removing the drop-in would make
networkd reload while the file is missing, and release the NIC.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

from ..files.write import leftovers
from ..model import (
    OUR_PROTOCOL,
    PASSING_REASONS,
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
from . import Evidence
from .evidence import names, program, systemd_version, text, unit
from .networkd_files import (
    NETWORK_DIRECTORIES,
    NetworkFile,
    interface_index,
    managed_links,
    network_files,
)
from .units import FOLLOW_PATH, RELOAD_UNIT

# One function, so that sh has read the whole script before a command in it can read the
# rest from standard input.
RELOAD_SCRIPT = r"""
main() {
test "$1" = all -o -z "$(ip -o address show dynamic scope global)" || exit 0
# Prints rules as `ip rule add` accepts them.
rules() {
    ip -N "$1" rule show | sed -e 's/:[[:space:]]*/ /' -e 's/ \[detached\]//' \
        -e 's/ \[unresolved\]//' -e 's/ lookup \[l3mdev-table\]/ l3mdev/' \
        -e 's/ ipproto ipproto-/ ipproto /'
}
# Prints rules that are neither networkd's, which it keeps, nor ours.
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


# Makes networkd reload its files.  It then reconfigures the links whose files have
# changed, which costs a static address nothing but ends a lease: pings are lost, and 252
# may then fail the link.  So with dynamic addresses the reload is left until networkd's
# next start; the kernel is right already, and the event path keeps it so.  Once all our
# files are removed there is no event path, and networkd must reload to forget them.
#
# networkd also deletes every rule that none of its files declares, whatever its origin
# (257), so the script restores those that existed before.
#
# It is a transient unit: networkctl uses D-Bus, which is not available yet in cloud-init's
# network stage, and nothing may wait for it there.  It retries, since 257 refuses while
# it is reloading for an earlier request.  It runs after systemd's own reload, if one is
# due: that makes netplan write networkd's files.  A daemon-reload breaks a waiting unit
# with a script among its arguments (252 escapes each $ when it serializes the unit, and
# does not unescape it), so the script is passed as standard input.
RELOAD = (
    *("systemd-run", "--quiet", "--collect", "--no-block"),
    "--description=Tell systemd-networkd of changed source routing",
    f"--property=After=dbus.service systemd-networkd.service {RELOAD_UNIT}",
    f"--property=StandardInputData={base64.b64encode(RELOAD_SCRIPT.encode()).decode()}",
    *("sh", "-s"),
)
RELOAD_ALL = (*RELOAD, "all")
SERVICE = "systemd-networkd.service"
DROP_IN = "50-source-routing.conf"
HEADER = "# Written by source-routing for {}; `source-routing apply` writes it anew.\n"
_HEADER_START, _HEADER_END = HEADER.split("{}")

# The releases that introduced a key, systemd.network(5).
SINCE_FAMILY = 243
SINCE_SUPPRESS_PREFIX_LENGTH = 245
SINCE_GROUP = 246
SINCE_SUPPRESS_INTERFACE_GROUP = 250


@dataclass(frozen=True)
class Facts:
    """The state of the root that the drop-ins depend on."""

    version: int | None = None  # of systemd; None: not found
    files: tuple[tuple[str, NetworkFile], ...] = ()  # NIC -> its .network file
    # Drop-ins of an earlier run: (path, content, the NICs that its header names).
    earlier: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def file(self, nic: str) -> NetworkFile | None:
        return next((file for name, file in self.files if name == nic), None)

    def has(self, release: int) -> bool:
        """Whether networkd is of `release` or later; an unknown version counts as recent."""
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
        reason = f"no .network file in etc or run, and NetworkManager is enabled ({rival.link})"
        return Evidence(False, reason)
    return Evidence(True, f"systemd-networkd is enabled ({service.link})")


def inspect(
    root: Path,
    plan: RoutingPlan,
    index_of: Callable[[str], int | None] = interface_index,
) -> Facts:
    earlier = []
    for path in _drop_ins(root):
        content = text(root, path)
        earlier.append((path, content, _header_nics(content)))
    return Facts(systemd_version(root), network_files(root, plan.nics, index_of), tuple(earlier))


def render(plan: RoutingPlan, facts: Facts) -> tuple[ConfigFile, ...]:
    return drop_ins(plan, facts)


def owned(root: Path) -> tuple[str, ...]:
    return tuple(_drop_ins(root))


def warnings(plan: RoutingPlan, facts: Facts, others: bool = False) -> tuple[str, ...]:
    """The parts of the plan that drop-ins cannot hold; `others`: NICs may have another manager."""
    found = []
    event_path = "`source-routing follow` keeps the rest"
    if plan.nics and not facts.has(SINCE_SUPPRESS_INTERFACE_GROUP):
        found.append(
            f"systemd {facts.version} is older than {SINCE_SUPPRESS_INTERFACE_GROUP}: networkd "
            f"cannot declare all rules; {event_path}"
        )
    for nic in plan.nics:
        file = facts.file(nic.name)
        if file is None:
            if others:
                continue
            found.append(f"{nic.name} has no .network file: networkd does not configure it")
        elif file.shared:
            found.append(
                f"{file.path} may mean other NICs than {nic.name} too, so it gets no routes of "
                f"{nic.name}; {event_path}"
            )
    return tuple(found)


def after(written: Iterable[str], removed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Have networkd read its files again."""
    gone = tuple(removed)
    if not any(map(_is_drop_in, (*written, *gone))):
        return ()
    return (RELOAD_ALL if FOLLOW_PATH in gone else RELOAD,)


def has_drop_in(files: Iterable[ConfigFile]) -> bool:
    return any(_is_drop_in(file.path) for file in files)


def as_declared(plan: RoutingPlan) -> RoutingPlan:
    """`plan` with routes and rules as networkd has them, for the live kernel.

    networkd adopts a route that it finds in the kernel, flags included, so it would set
    one that lacks "onlink" again without it (252).  IPv6 routes stay unchanged: the kernel
    refuses "onlink" if main has another route to the gateway (ip6_validate_gw in
    net/ipv6/route.c).

    To networkd a rule of another protocol is foreign, even if one of its files declares
    an equal rule, and is deleted whenever networkd reconfigures a link
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
    """Whether the drop-ins declare `rule`: not if it depends on another program's rule.

    The other rule may come and go at any time, and networkd would have to reload each
    time.  For the same reason the rules in drop-ins keep the stanza's priority, even while
    ours in the kernel have moved in front of a tunnel's.
    """
    return rule.priority - plan.rule_priority not in STAGES_OF_OTHERS


# -- drop-ins --------------------------------------------------------------------


def drop_ins(plan: RoutingPlan, facts: Facts) -> tuple[ConfigFile, ...]:
    """One drop-in for each .network file of a planned NIC, and earlier ones that are kept."""
    by_path: dict[str, list[PlannedNic]] = {}
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
    # NICs that networkd does not configure.
    unmanaged = [
        nic for nic in plan.nics if facts.file(nic.name) is None and interface_name(nic.name)
    ]
    files = {
        path: ConfigFile(path, _drop_in(plan, facts, nics, unmanaged, path in shared))
        for path, nics in by_path.items()
    }
    for path, content in _kept(facts, _waiting(plan) | missing):
        files.setdefault(path, ConfigFile(path, content))
    return tuple(files[path] for path in sorted(files))


def _waiting(plan: RoutingPlan) -> frozenset[str]:
    """The NICs that only wait for a link, an address, a gateway or a sibling, as in a flap."""
    return frozenset(name for name, why in plan.unserved.items() if why in PASSING_REASONS)


def _kept(facts: Facts, absent: frozenset[str]) -> Iterable[tuple[str, str]]:
    """The earlier drop-ins of which all NICs are `absent` for the moment: (path, content)."""
    for path, content, nics in facts.earlier:
        if nics and absent.issuperset(nics):
            yield path, content


def _drop_in(
    plan: RoutingPlan,
    facts: Facts,
    nics: list[PlannedNic],
    unmanaged: list[PlannedNic],
    shared: bool,
) -> str:
    sections: list[tuple[str, Sequence[tuple[str, str]]]] = []
    if not shared and facts.has(SINCE_GROUP):
        sections.append(("Link", (("Group", str(plan.group)),)))
    moved = plan.asked_priority - plan.rule_priority
    rules = [
        rule._replace(priority=rule.priority + moved)
        for nic in (*nics, *unmanaged)
        for rule in nic.rules
        if _is_declared(rule, plan)
    ]
    sections += [
        ("RoutingPolicyRule", _rule(rule)) for rule in rules if _is_expressible(rule, facts)
    ]
    if not shared:
        sections += [("Route", _route(route)) for nic in nics for route in nic.routes]
    body = "".join(
        f"\n[{name}]\n" + "".join(f"{key}={value}\n" for key, value in settings)
        for name, settings in sections
    )
    return HEADER.format(" ".join(nic.name for nic in nics)) + body


def _is_expressible(rule: Rule, facts: Facts) -> bool:
    # networkd ignores an unknown key and would make a different rule: omit it instead.
    if rule.suppress_ifgroup is not None and not facts.has(SINCE_SUPPRESS_INTERFACE_GROUP):
        return False
    if rule.suppress_prefixlength is not None and not facts.has(SINCE_SUPPRESS_PREFIX_LENGTH):
        return False
    return facts.has(SINCE_FAMILY) or rule.src is not None


def _rule(rule: Rule) -> tuple[tuple[str, str], ...]:
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


def _route(route: Route) -> tuple[tuple[str, str], ...]:
    settings = [("Destination", str(route.dst)), ("Table", str(route.table))]
    if route.type != "unicast":
        settings.append(("Type", route.type))
    if route.gateway is not None:
        settings.append(("Gateway", str(route.gateway)))
        # Otherwise the kernel refuses the route while the NIC has no address (a lost
        # lease), and networkd then fails the whole link and reconfigures it.
        settings.append(("GatewayOnLink", "yes"))
    if route.family == 4 and route.type == "unicast":
        settings.append(("Scope", "link" if route.scope == SCOPE_LINK else "global"))
    settings += [("Metric", str(route.metric)), ("Protocol", str(OUR_PROTOCOL))]
    return tuple(settings)


def _is_drop_in(path: str) -> bool:
    return path.endswith(f".network.d/{DROP_IN}")


def _drop_ins(root: Path) -> list[str]:
    """Our drop-ins in /etc/systemd/network, recognized by name and header."""
    found = []
    for directory in names(root, "/etc/systemd/network"):
        path = f"/etc/systemd/network/{directory}/{DROP_IN}"
        if not directory.endswith(".network.d"):
            continue
        if text(root, path).startswith(_HEADER_START) or leftovers(root, path):
            found.append(path)
    return found


def _header_nics(content: str) -> tuple[str, ...]:
    """The NICs named in the header of one of our drop-ins."""
    first = content.partition("\n")[0] + "\n"
    if not (first.startswith(_HEADER_START) and first.endswith(_HEADER_END)):
        return ()
    listed = first[len(_HEADER_START) : -len(_HEADER_END)]
    return tuple(name for name in listed.split() if interface_name(name))
