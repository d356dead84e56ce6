"""Proxies, addresses that move, routing daemons, and servers that forward for others."""

from __future__ import annotations

from lab import Ping

from .software import (
    ENS3,
    ENS4,
    GATEWAY3,
    GATEWAY4,
    H2,
    MENDED,
    SERVED,
    Fetch,
    Listener,
    R,
    Software,
)

FORWARDS = {"net/ipv4/conf/all/forwarding": 1}
PROXIED = "203.0.113.80"

TPROXY = Software(
    "tproxy",
    "the kernel, Documentation/networking/tproxy.rst (a mark, and a table that delivers "
    "everything locally)",
    allowed=(PROXIED,),
    elsewhere={
        "RT": (f"route add {PROXIED}/32 via {ENS4}",),
        "H2": (f"route add {PROXIED}/32 via {ENS4}",),
    },
    sets=("rule add fwmark 1 lookup 100", "route add local 0.0.0.0/0 dev lo table 100"),
    nft=f"""
table ip proxy {{
  chain divert {{
    type filter hook prerouting priority mangle;
    ip daddr {PROXIED} meta l4proto tcp tproxy to :8080 meta mark set 1 accept
  }}
}}""",
    listeners=(Listener("S", 8080),),
    works=(*SERVED, Fetch("R", PROXIED, 80), Fetch("H2", PROXIED, 80)),
)
HAPROXY = Software(
    "haproxy-transparent-source",
    "HAProxy, doc/configuration.txt (source ... usesrc clientip), with TPROXY's rule for what "
    "comes back",
    allowed=(R,),
    elsewhere={"H2": (f"route add {R}/32 via {ENS4}",)},
    sets=("rule add fwmark 1 lookup 100", "route add local 0.0.0.0/0 dev lo table 100"),
    nft="""
table ip haproxy {
  chain divert {
    type filter hook prerouting priority mangle;
    meta l4proto tcp socket transparent 1 meta mark set 1 accept
  }
}""",
    listeners=(Listener("H2", 8000),),
    works=(*SERVED, Fetch("S", H2, 8000, R), Fetch("S", H2, 8000)),
)

MOVING = "10.13.96.200"
KEEPALIVED = Software(
    "keepalived-vip",
    "keepalived, keepalived/vrrp/vrrp_ipaddress.c (a /32 on the NIC, unless told otherwise)",
    allowed=(MOVING,),
    allowed_ports=(1,),
    sets=(f"address add {MOVING}/32 dev ens4",),
    works=(*SERVED, Ping("H2", MOVING)),
    mended=(*MENDED, Ping("R", MOVING), Ping("H1", MOVING)),
)

# 16 hosts on the far side: equal routes part them by a hash of the addresses.
FARM = tuple(f"198.51.100.{number}" for number in range(1, 17))
BIRD = Software(
    "bird-ecmp",
    "BIRD, sysdep/linux/netlink.c (protocol 12, several next hops where `merge paths` is on)",
    elsewhere={
        "R": tuple(f"address add {one}/32 dev lo" for one in FARM),
        "RT": (f"route add 198.51.100.0/24 via {R}",),
    },
    sets=(f"route add 198.51.100.0/24 proto bird nexthop via {GATEWAY3} nexthop via {GATEWAY4}",),
    works=(*SERVED, *(Ping("S", one) for one in FARM)),
    # Without us it depends on the kernel whether a source keeps to its own next hop.
    with_us=tuple(Ping("S", one, source) for source in (ENS3, ENS4) for one in FARM),
)
FRR = Software(
    "frr-ecmp",
    "FRR, zebra/rt_netlink.c and lib/route_types.txt (protocol 186 for BGP, several next hops)",
    elsewhere={
        "R": tuple(f"address add {one}/32 dev lo" for one in FARM),
        "RT": (f"route add 198.51.100.0/24 via {R}",),
        "H2": tuple(f"address add {one}/32 dev lo" for one in FARM),
    },
    sets=(f"route add 198.51.100.0/24 proto bgp nexthop via {GATEWAY4} nexthop via {H2}",),
    works=(
        *SERVED,
        *(Ping("S", one) for one in FARM),
        *(Ping("S", one, ENS4) for one in FARM),
    ),
)
NAT_GATEWAY = Software(
    "nat-gateway",
    "nft(8), masquerade",
    allowed=(R,),
    elsewhere={"H2": (f"route add {R}/32 via {ENS4}",)},
    sysctls=FORWARDS,
    nft="""
table ip gateway {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "ens3" ip saddr 10.13.96.0/19 ip saddr != 10.13.96.161 masquerade
  }
}""",
    works=(*SERVED, Ping("H2", R)),
)

PROXIES = (TPROXY, HAPROXY, KEEPALIVED, BIRD, FRR, NAT_GATEWAY)
