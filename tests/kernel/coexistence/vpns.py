"""VPNs: the rules and routes that they set, over a tun device."""

from __future__ import annotations

from lab import Ping

from .software import (
    BEHIND,
    ENS3,
    ENS4,
    ENS4_6,
    FAR,
    GATEWAY3,
    H1,
    H2,
    MENDED,
    SERVED,
    WORLD,
    R,
    Software,
    Tunnel,
    without,
)

# What an address of ours and a peer in the VPN say to each other.
THROUGH = (
    Ping("S", BEHIND),
    Ping("S", BEHIND, ENS4),
    Ping("X", ENS4),
    Ping("X", ENS3),
)
# With all traffic in the tunnel, nothing that comes to the NICs is answered without us.
ALL_TAKEN = (Ping("R", ENS3), *MENDED)
# Those that IPv4's rules of the VPN decide where they stand before ours.
WHAT_IT_ROUTES = without(ALL_TAKEN, Ping("R", ENS4_6), Ping("S", R, "ens4"))
# A socket that is bound to no address goes into the tunnel, as the VPN means it.
INTO_THE_TUNNEL = Ping("S", R)

_TAILSCALE_SOURCE = (
    "tailscale/tailscale, wgengine/router/osrouter/router_linux.go (baseIPRules, from 5200 on, "
    "table 52) and tsconst (marks 0x40000 and 0x80000 of mask 0xff0000)"
)
_TAILSCALE_RULES = (
    "rule add pref 5210 fwmark 0x80000/0xff0000 lookup main",
    "rule add pref 5230 fwmark 0x80000/0xff0000 lookup default",
    "rule add pref 5250 fwmark 0x80000/0xff0000 unreachable",
    "rule add pref 5270 lookup 52",
)
_TAILSCALE = Tunnel("tailscale0", "100.64.0.1/32")
_TAILSCALE_OWN = Ping("S", R, mark=0x80000)  # tailscaled's own packets

TAILSCALE = Software(
    "tailscale-accept-routes",
    _TAILSCALE_SOURCE,
    tunnel=_TAILSCALE,
    sets=(
        *_TAILSCALE_RULES,
        f"route add {FAR} dev tailscale0 table 52",
        "route add 10.20.0.0/16 dev tailscale0 table 52",
    ),
    works=(*SERVED, *THROUGH, _TAILSCALE_OWN),
    next_run=THROUGH[1:],
)
TAILSCALE_SUBNET_ROUTER = Software(
    "tailscale-subnet-router",
    _TAILSCALE_SOURCE + "; util/linuxfw/nftables_runner.go (AddSNATRule, forwarded packets)",
    tunnel=_TAILSCALE,
    sets=(*_TAILSCALE_RULES, f"route add {FAR} dev tailscale0 table 52"),
    sysctls={"net/ipv4/conf/all/forwarding": 1},
    nft="""
table ip tailscale {
  chain forward {
    type filter hook forward priority filter;
    iifname "tailscale0" meta mark set meta mark & 0xff00ffff | 0x40000
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    meta mark & 0xff0000 == 0x40000 masquerade
  }
}""",
    works=(*SERVED, Ping("X", H2), Ping("X", H1), Ping("X", R), Ping("X", ENS4)),
    next_run=(Ping("X", ENS4),),
)
TAILSCALE_EXIT_NODE = Software(
    "tailscale-exit-node",
    _TAILSCALE_SOURCE,
    tunnel=_TAILSCALE,
    sets=(*_TAILSCALE_RULES, "route add default dev tailscale0 table 52"),
    works=(Ping("S", WORLD), _TAILSCALE_OWN, Ping("X", FAR)),
    mended=ALL_TAKEN,
    lost=(INTO_THE_TUNNEL,),
)

_WG_QUICK_SOURCE = "wireguard-tools, src/wg-quick/linux.bash (add_default, add_route)"
_WG = Tunnel("wg0", "100.64.0.1/32")
WG_QUICK_FULL = Software(
    "wg-quick-full-tunnel",
    _WG_QUICK_SOURCE,
    tunnel=_WG,
    sets=(
        "rule add not fwmark 51820 table 51820",
        "rule add table main suppress_prefixlength 0",
        "route add 0.0.0.0/0 dev wg0 table 51820",
    ),
    sysctls={"net/ipv4/conf/all/src_valid_mark": 1},
    works=(Ping("S", WORLD), Ping("S", H2), Ping("S", R, mark=51820)),
    mended=ALL_TAKEN,
    lost=(INTO_THE_TUNNEL,),
)
WG_QUICK_SPLIT = Software(
    "wg-quick-split-tunnel",
    _WG_QUICK_SOURCE,
    tunnel=Tunnel("wg0", "100.64.0.1/24"),
    sets=("route add 10.20.0.0/16 dev wg0",),
    works=(*SERVED, *THROUGH),
)
OPENVPN = Software(
    "openvpn-redirect-gateway-def1",
    "OpenVPN, src/openvpn/route.c (redirect_default_route_to_vpn: the server by the old "
    "gateway, 0.0.0.0/1 and 128.0.0.0/1 by the tunnel)",
    tunnel=Tunnel("tun0", "100.64.0.1/24"),
    elsewhere={"R": ("address add 64.31.0.60/24 dev eth0",)},
    sets=(
        f"route add 64.31.0.60/32 via {GATEWAY3}",
        f"route add 0.0.0.0/1 via {FAR}",
        f"route add 128.0.0.0/1 via {FAR}",
    ),
    works=(Ping("S", WORLD), Ping("S", "64.31.0.60"), Ping("S", H2), Ping("X", ENS4)),
    mended=ALL_TAKEN,
    lost=(INTO_THE_TUNNEL,),
)

_NETBIRD_SOURCE = (
    "netbirdio/netbird, client/internal/routemanager/systemops/systemops_linux.go "
    "(getSetupRules, NetbirdVPNTableID) and client/net/net.go (ControlPlaneMark 0x1bd00)"
)
_NETBIRD_RULES = (
    "rule add pref 105 lookup main suppress_prefixlength 0",
    "rule add pref 110 not fwmark 0x1bd00 lookup 7120",
)
# Its first rule is main, with what main sends out by the other NIC.
BY_MAIN = (Ping("H1", ENS4), Ping("H2", ENS3))
_NETBIRD = Tunnel("wt0", "100.64.0.1/16", (FAR, "192.168.77.7", WORLD))
NETBIRD = Software(
    "netbird-routes",
    _NETBIRD_SOURCE,
    tunnel=_NETBIRD,
    sets=(*_NETBIRD_RULES, "route add 192.168.77.0/24 dev wt0 table 7120"),
    works=(
        *SERVED,
        Ping("S", "192.168.77.7"),
        Ping("S", "192.168.77.7", ENS4),
        Ping("X", ENS4),
        Ping("S", R, mark=0x1BD00),
    ),
    mended=without(MENDED, *BY_MAIN),
    lost=BY_MAIN,
)
NETBIRD_EXIT_NODE = Software(
    "netbird-exit-node",
    _NETBIRD_SOURCE,
    tunnel=_NETBIRD,
    sets=(*_NETBIRD_RULES, "route add default dev wt0 table 7120"),
    works=(Ping("S", WORLD), Ping("X", ENS4), Ping("S", R, mark=0x1BD00)),
    mended=without(ALL_TAKEN, *WHAT_IT_ROUTES),
    lost=(INTO_THE_TUNNEL, *WHAT_IT_ROUTES),
)

VPNS = (
    TAILSCALE,
    TAILSCALE_SUBNET_ROUTER,
    TAILSCALE_EXIT_NODE,
    WG_QUICK_FULL,
    WG_QUICK_SPLIT,
    OPENVPN,
    NETBIRD,
    NETBIRD_EXIT_NODE,
)
