"""Others who route by policy themselves."""

from __future__ import annotations

from lab import Ping

from .software import (
    CONTAINER,
    ENS3,
    ENS4,
    ENS4_6,
    GATEWAY3,
    GATEWAY4,
    MENDED,
    SERVED,
    WE_FIRST,
    R,
    Software,
    without,
)

# What their rules serve already.
SERVED_BY_THEM = (Ping("R", ENS4), Ping("S", R, ENS4))
BY_THEIR_GATEWAY = Ping("H1", ENS4)  # not where main is asked before
STILL_DEAD = without(MENDED, *SERVED_BY_THEM)
# A container behind docker0, and the second NIC's address.
CONTAINED = (Ping("C", ENS4), Ping("S", CONTAINER, ENS4))

EC2_NET_UTILS = Software(
    "ec2-net-utils",
    "amazonlinux/amazon-ec2-net-utils, lib/lib.sh (rule_base 10000: rules and tables of the "
    "secondary NICs)",
    container=True,
    sets=(
        f"rule add pref 10001 from {ENS4} lookup 10001",
        f"route add default via {GATEWAY4} dev ens4 table 10001",
        "route add 10.13.96.0/19 dev ens4 table 10001",
        f"route add default via {GATEWAY4} dev ens4 metric 513",
    ),
    works=(*SERVED, *SERVED_BY_THEM, BY_THEIR_GATEWAY, Ping("S", R, "ens4")),
    mended=(*without(STILL_DEAD, BY_THEIR_GATEWAY, Ping("S", R, "ens4")), *CONTAINED),
)
NM_CLOUD_SETUP = Software(
    "nm-cloud-setup",
    "NetworkManager, src/nm-cloud-setup/main.c (_nmc_mangle_connection: 30200, 30350, 30400)",
    container=True,
    sets=(
        f"rule add pref 30200 from {ENS3} lookup 30200",
        f"rule add pref 30201 from {ENS4} lookup 30201",
        "rule add pref 30350 lookup main suppress_prefixlength 0",
        f"rule add pref 30400 from {ENS3} lookup 30400",
        f"rule add pref 30401 from {ENS4} lookup 30401",
        "route add 162.253.43.0/24 dev ens3 metric 10 table 30200",
        "route add 10.13.96.0/19 dev ens4 metric 10 table 30201",
        f"route add default via {GATEWAY3} dev ens3 metric 10 table 30400",
        f"route add default via {GATEWAY4} dev ens4 metric 10 table 30401",
    ),
    works=(*SERVED, *SERVED_BY_THEM, *CONTAINED),
    mended=STILL_DEAD,
)


NETPLAN_MENDS = without(STILL_DEAD, BY_THEIR_GATEWAY)


def _netplan(name: str, rule: str, **more: object) -> Software:
    return Software(
        name,
        "netplan, doc/netplan-yaml.md (routing-policy: from, table, priority) over networkd",
        container=True,
        sets=(
            f"rule add {rule} from 10.13.96.0/19 lookup 101",
            f"route add default via {GATEWAY4} dev ens4 table 101",
            "route add 10.13.96.0/19 dev ens4 table 101",
        ),
        works=(*SERVED, *SERVED_BY_THEM, BY_THEIR_GATEWAY),
        **more,
    )


NETPLAN_AFTER = _netplan(
    "netplan-routing-policy-after-ours", "pref 10000", mended=(*NETPLAN_MENDS, *CONTAINED)
)
NETPLAN_BEFORE = _netplan(
    "netplan-routing-policy-before-ours",
    "pref 100",
    mended=NETPLAN_MENDS,
    lost=CONTAINED,
)
NETPLAN_WITHOUT = _netplan(
    "netplan-routing-policy-without-priority",
    "",
    mended=(*NETPLAN_MENDS, *CONTAINED),
    not_mended={WE_FIRST: CONTAINED},
)
BY_BALANCE = Ping("S", R, "ens4")
SHOREWALL = Software(
    "shorewall-providers",
    "Shorewall, Shorewall/Perl/Shorewall/Providers.pm (USE_DEFAULT_RT: main at 999, marks at "
    "10000, sources at 20000, the balanced default in table 250 at 32765)",
    container=True,
    sets=(
        "rule add pref 999 lookup main",
        "rule add pref 10000 fwmark 0x10000/0xff0000 lookup 1",
        "rule add pref 10001 fwmark 0x20000/0xff0000 lookup 2",
        f"rule add pref 20000 from {ENS3} lookup 1",
        f"rule add pref 20000 from {ENS4} lookup 2",
        "rule add pref 32765 lookup 250",
        f"route add {GATEWAY3} dev ens3 table 1",
        f"route add default via {GATEWAY3} dev ens3 table 1",
        f"route add {GATEWAY4} dev ens4 table 2",
        f"route add default via {GATEWAY4} dev ens4 table 2",
        f"route add default table 250 nexthop via {GATEWAY3} nexthop via {GATEWAY4}",
        f"route del default via {GATEWAY3} dev ens3",
        "rule del pref 32766",
    ),
    works=(*SERVED, *SERVED_BY_THEM, Ping("S", R, mark=0x10000), *CONTAINED, BY_BALANCE),
    mended=(Ping("R", ENS4_6),),
    lost=(Ping("H1", ENS4), Ping("H2", ENS3)),
)
ITSELF = (Ping("S", ENS4, ENS4), Ping("S", ENS4), Ping("S", ENS3, ENS3))
VRF = Software(
    "vrf",
    "the kernel, Documentation/networking/vrf.rst (the l3mdev rule at 1000, local moved to 32765)",
    sets=(
        "rule add pref 1000 l3mdev protocol kernel",
        "rule add pref 32765 lookup local",
        "rule del pref 0",
    ),
    works=(*SERVED, *ITSELF),
    next_run=ITSELF,
    mended=(Ping("R", ENS4_6),),
    lost=without(MENDED, Ping("R", ENS4_6)),
)

POLICIES = (
    EC2_NET_UTILS,
    NM_CLOUD_SETUP,
    NETPLAN_AFTER,
    NETPLAN_BEFORE,
    NETPLAN_WITHOUT,
    SHOREWALL,
    VRF,
)
