"""Bonds, VLANs and a VPN in a virtual machine, whose kernel has them, as shell scripts.

What is at the other end of their cables is a network namespace of the machine.
"""

from __future__ import annotations

from ipaddress import IPv4Address

# Behind the routers of bond and VLAN; no other way leads there than theirs.
CLIENT = IPv4Address("203.0.113.9")

BOND, BOND_ADDRESS, BOND_ROUTER = "bond7", IPv4Address("198.51.100.9"), "198.51.100.1"
VLAN, VLAN_ADDRESS, VLAN_ROUTER = "bond7.7", IPv4Address("192.0.2.9"), "192.0.2.1"

PEER = f"""
set -e
modprobe -a bonding 8021q wireguard
ip netns add peer
ip -n peer link set lo up
ip -n peer address add {CLIENT}/32 dev lo
ip -n peer link add br0 type bridge
for number in 0 1; do
    ip link add port$number type veth peer name far$number netns peer
    ip -n peer link set far$number master br0 up
done
ip -n peer link set br0 up
ip -n peer address add {BOND_ROUTER}/24 dev br0
ip -n peer link add link br0 name br0.7 type vlan id 7
ip -n peer link set br0.7 up
ip -n peer address add {VLAN_ROUTER}/24 dev br0.7
"""
ADD_BOND = f"""
set -e
ip link add {BOND} type bond mode active-backup miimon 100
for number in 0 1; do
    ip link set port$number down
    ip link set port$number master {BOND}
    ip link set port$number up
done
ip link set {BOND} up
ip address add {BOND_ADDRESS}/24 dev {BOND}
ip route add default via {BOND_ROUTER} dev {BOND} metric 900
"""
ADD_VLAN = f"""
set -e
ip link add link {BOND} name {VLAN} type vlan id 7
ip link set {VLAN} up
ip address add {VLAN_ADDRESS}/24 dev {VLAN}
ip route add default via {VLAN_ROUTER} dev {VLAN} metric 901
"""
ACTIVE = f"cat /sys/class/net/{BOND}/bonding/active_slave"
FAIL_OVER = f"ip link set $({ACTIVE}) down"
REMOVE_VLAN = f"ip link del {VLAN}"
REMOVE_BOND = f"ip link del {BOND}; ip netns del peer"

# A tunnel that takes all traffic by halves, as wg-quick and openvpn do.
ADD_VPN = """
set -e
ip link add wg7 type wireguard
ip address add 10.99.0.2/24 dev wg7
ip link set wg7 up
for half in 0.0.0.0/1 128.0.0.0/1; do ip route add $half dev wg7; done
"""
REMOVE_VPN = "ip link del wg7"


def answers_by(device: str, address: IPv4Address, router: str) -> str:
    """Succeeds when replies from `address` to the client would take the way by `device`.

    Asked before that, the machine would answer by its first NIC, as a spoofer.
    """
    return f"ip route get {CLIENT} from {address} | grep -F 'via {router} dev {device} '"


def asks(address: IPv4Address) -> str:
    """Succeeds when the client gets its answers from an address of the machine."""
    return f"ip netns exec peer ping -q -n -c2 -i0.3 -W2 -I {CLIENT} {address}"


BOND_ANSWERS = answers_by(BOND, BOND_ADDRESS, BOND_ROUTER)
VLAN_ANSWERS = answers_by(VLAN, VLAN_ADDRESS, VLAN_ROUTER)
