"""Networks of containers and pods, and what stands before them."""

from __future__ import annotations

from dataclasses import replace

from lab import Ping

from .software import (
    CONTAINER,
    ENS3,
    ENS4,
    GATEWAY4,
    H2,
    MENDED,
    SERVED,
    Fetch,
    Listener,
    R,
    Software,
)

# A pod here, and one on the node H2.
POD, POD_THERE = "10.244.1.2", "10.244.2.5"
PODS = ("10.244.0.0/16",)
NODE = (f"address add {POD_THERE}/32 dev lo", f"route add 10.244.1.0/24 via {ENS4}")
BETWEEN_PODS = (
    Ping("P", POD_THERE),
    Ping("H2", POD, POD_THERE),
    Ping("P", H2),
    Ping("S", POD),
    Ping("S", POD_THERE),
    Ping("S", POD_THERE, ENS4),
    Ping("P", ENS4),
    Ping("P", ENS3),
    Ping("S", POD, ENS4),
    Ping("P", R),
)
FORWARDS = {"net/ipv4/conf/all/forwarding": 1}
MASQUERADED = """
table ip nodes {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.244.0.0/16 ip daddr != 10.0.0.0/8 masquerade
  }
}"""

CALICO = Software(
    "calico-bgp",
    "projectcalico/calico, felix/dataplane/linux (cali veths, their /32 routes, proxy ARP of "
    "169.254.1.1), confd's bird templates (blocks of /26, a blackhole for the own one)",
    pod=("cali12345", POD),
    allowed=PODS,
    elsewhere={"H2": NODE},
    sets=(
        f"route add {POD}/32 dev cali12345 scope link",
        "route add blackhole 10.244.1.0/26 proto bird",
        f"route add 10.244.2.0/26 via {H2} dev ens4 proto bird",
    ),
    sysctls=FORWARDS,
    # Felix marks what its policy has accepted.
    nft=MASQUERADED
    + """
table ip felix {
  chain prerouting {
    type filter hook prerouting priority mangle;
    iifname "cali*" meta mark set meta mark | 0x10000
  }
}""",
    works=(*SERVED, *BETWEEN_PODS),
    lost=(Ping("S", POD_THERE, ENS3),),
)
CALICO_WITH_MARKS = replace(
    CALICO,
    name="calico-bgp-with-published-ports",
    stanza={"published_ports": True, "published_ports_mark": 0xFF},
)
CILIUM = Software(
    "cilium-native-routing",
    "cilium/cilium, pkg/datapath/linux/linux_defaults (priorities 9, 10, 100, tables 2004, "
    "2005) and pkg/proxy/routes.go (marks 0x200 and 0xa00 of mask 0xf00)",
    pod=("lxc12345", POD),
    allowed=(*PODS, "203.0.113.80"),
    elsewhere={"H2": NODE, "RT": (f"route add 203.0.113.80/32 via {ENS4}",)},
    sets=(
        "rule add pref 100 lookup local protocol kernel",
        "rule del pref 0",
        "rule add pref 9 fwmark 0x200/0xf00 lookup 2004 protocol kernel",
        "rule add pref 10 fwmark 0xa00/0xf00 lookup 2005 protocol kernel",
        "route add local default dev lo table 2004 proto kernel",
        "route add default dev lxc12345 table 2005 proto kernel",
        f"route add {POD}/32 dev lxc12345 scope link proto kernel",
        f"route add 10.244.2.0/24 via {H2} dev ens4 proto kernel",
    ),
    sysctls=FORWARDS,
    nft=MASQUERADED
    + """
table ip cilium {
  chain prerouting {
    type filter hook prerouting priority mangle;
    ip daddr 203.0.113.80 meta l4proto tcp tproxy to :8080 meta mark set 0x200
  }
}""",
    listeners=(Listener("S", 8080),),
    works=(
        *SERVED,
        *BETWEEN_PODS,
        Ping("S", POD, mark=0xA00),  # from the proxy to the pod
        Fetch("R", "203.0.113.80", 80),  # by the proxy here, whoever it was meant for
    ),
    lost=(Ping("S", POD_THERE, ENS3),),
)
FLANNEL = Software(
    "flannel-host-gw",
    "flannel-io/flannel, pkg/backend/hostgw and pkg/backend/route_network.go (a route in main "
    "for each node's /24, by that node)",
    pod=("cni0p", POD),
    allowed=PODS,
    elsewhere={"H2": NODE},
    sets=(
        f"route add {POD}/32 dev cni0p scope link",
        f"route add 10.244.2.0/24 via {H2} dev ens4",
    ),
    sysctls=FORWARDS,
    nft=MASQUERADED,
    works=(*SERVED, *BETWEEN_PODS),
    lost=(Ping("S", POD_THERE, ENS3),),
)

VIP = "203.0.113.9"
KUBE_ROUTER = Software(
    "kube-router-dsr",
    "cloudnativelabs/kube-router, pkg/controllers/proxy/linux_networking.go (table 78 delivers "
    "marked packets locally, rule 32765 looks table 79 up)",
    pod=("kube-bridge", POD),
    allowed=(VIP, *PODS),
    elsewhere={"RT": (f"route add {VIP}/32 via {ENS4}",), "P": (f"address add {VIP}/32 dev lo",)},
    sets=(
        f"route add {POD}/32 dev kube-bridge scope link",
        "rule add pref 32764 fwmark 0x3e5 lookup 78",
        "route add local default dev lo table 78",
        "rule add pref 32765 lookup 79",
        f"route add {VIP}/32 dev kube-bridge table 79",
    ),
    sysctls=FORWARDS,
    nft=f"""
table ip dsr {{
  chain prerouting {{
    type filter hook prerouting priority mangle;
    ip daddr {VIP} meta mark set 0x3e5
  }}
}}""",
    # Where IPVS would take them to a pod.
    listeners=(Listener("S", 8080),),
    works=(*SERVED, Fetch("R", VIP, 8080), Ping("S", VIP), Ping("S", VIP, ENS4)),
    next_run=(Ping("S", VIP, ENS4),),
)
SERVICE = "10.96.0.10"
KUBE_IPVS = Software(
    "kube-proxy-ipvs",
    "kubernetes/kubernetes, pkg/proxy/ipvs (kube-ipvs0, a dummy device that is down and has "
    "every service's address as /32)",
    pod=("kube0", POD),
    allowed=(VIP, *PODS),
    elsewhere={"RT": (f"route add {VIP}/32 via {ENS4}",)},
    sets=(
        f"route add {POD}/32 dev kube0 scope link",
        "link add kube-ipvs0 type bridge",
        f"address add {SERVICE}/32 dev kube-ipvs0",
        f"address add {VIP}/32 dev kube-ipvs0",
    ),
    sysctls=FORWARDS,
    nft=MASQUERADED,
    works=(*SERVED, Ping("S", SERVICE), Ping("P", SERVICE), Ping("P", ENS4), Ping("R", VIP)),
)

ENI_POD = "10.13.97.2"  # of the second NIC's subnet
AWS_VPC_CNI = Software(
    "aws-vpc-cni",
    "aws/amazon-vpc-cni-k8s, pkg/networkutils/network.go (priorities 512, 1024, 1536, connection "
    "mark 0x80) and cmd/routed-eni-cni-plugin/driver",
    pod=("eni12345", ENI_POD),
    allowed=(ENI_POD,),
    elsewhere={
        "RT": (f"route add {ENI_POD} via {ENS4}",),
        "H2": (f"route add {ENI_POD} via {ENS4}",),
    },
    sets=(
        f"route add {ENI_POD} dev eni12345 scope link",
        f"rule add pref 512 to {ENI_POD} lookup main",
        "rule add pref 1024 fwmark 0x80/0x80 lookup main",
        f"rule add pref 1536 from {ENI_POD} lookup 2",
        f"route add {GATEWAY4} dev ens4 scope link table 2",
        f"route add default via {GATEWAY4} dev ens4 table 2",
    ),
    sysctls={**FORWARDS, "net/ipv4/conf/ens3/rp_filter": 2},
    nft="""
table ip aws {
  chain prerouting {
    type filter hook prerouting priority mangle;
    iifname "ens3" fib daddr type local ct mark set ct mark | 0x80
    iifname "eni*" ct mark & 0x80 == 0x80 meta mark set meta mark | 0x80
  }
}""",
    works=(
        *SERVED,
        Ping("P", R),
        Ping("R", ENI_POD),
        Ping("P", H2),
        Ping("S", ENI_POD),
        Ping("S", ENI_POD, ENS4),
        Ping("P", ENS3),
        Ping("P", ENS4),
    ),
)

PUBLISHED = """
table ip docker {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80
  }
}"""
IN_THE_BRIDGE = (
    Ping("S", CONTAINER),
    Ping("S", CONTAINER, ENS4),
    Ping("C", ENS3),
    Ping("C", ENS4),
    Ping("C", R),
)
BY_THE_SECOND_NIC = (Fetch("R", ENS4, 8080), Fetch("H1", ENS4, 8080))
DOCKER = Software(
    "docker-published-port",
    "moby/moby, daemon/libnetwork/drivers/bridge (docker0, a DNAT for each published port)",
    container=True,
    nft=PUBLISHED,
    listeners=(Listener("C", 80),),
    works=(*SERVED, *IN_THE_BRIDGE, Fetch("R", ENS3, 8080)),
    lost=BY_THE_SECOND_NIC,
)
DOCKER_WITH_MARKS = Software(
    "docker-published-port-with-the-key",
    DOCKER.source,
    container=True,
    stanza={"published_ports": True},
    nft=PUBLISHED,
    listeners=DOCKER.listeners,
    works=DOCKER.works,
    mended=(*MENDED, *BY_THE_SECOND_NIC),
)

CONTAINERS = (
    CALICO,
    CALICO_WITH_MARKS,
    CILIUM,
    FLANNEL,
    KUBE_ROUTER,
    KUBE_IPVS,
    AWS_VPC_CNI,
    DOCKER,
    DOCKER_WITH_MARKS,
)
