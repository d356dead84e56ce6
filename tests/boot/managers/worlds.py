"""The network managers that are served, each as an image and with what can happen to it.

Together they are the matrix of first boots, too: each suite with addresses from the
ConfigDrive and from a DHCP server, with two NICs and with four.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagebuild import recipe

# An image whose netplan leaves all devices to NetworkManager.  Nobody bakes that
# one, so the builder does not know it by itself.
recipe.VARIANTS.setdefault("netplan-nm", ("netplan.io", "network-manager"))

FLAP = "ip link set {nic} down; sleep 1; ip link set {nic} up"
# A container has no udev, so what netplan asks of it is answered by this.  It
# also does to newly generated files what the lab does at networkd's start:
# veths have no permanent MAC.  So does a generator in place of netplan's own.
UDEV = "/opt/no-udev/udevadm"
NO_PERMANENT_MAC = (
    "sed -i s/^PermanentMACAddress=/MACAddress=/ /run/systemd/network/*.network 2>/dev/null\n"
)
UDEV_FILE = {
    UDEV: f"#!/bin/sh\n{NO_PERMANENT_MAC}exit 0\n",
    "/etc/systemd/system-generators/netplan": (
        f'#!/bin/sh\n/usr/lib/systemd/system-generators/netplan "$@"\n{NO_PERMANENT_MAC}exit 0\n'
    ),
}

RENAME = (
    "ip link set {nic} down; ip link set {nic} name other9; ip link set other9 up; sleep 1; "
    "ip link set other9 down; ip link set other9 name {nic}; ip link set {nic} up"
)
# Without it the kernel forgets IPv6 addresses, and ifupdown does not look.
KEEP_ADDRESSES = "sysctl -q net.ipv6.conf.{nic}.keep_addr_on_down=1; "
RENAMED = "somebody renames the NIC and gives its name back"

# Else systemd refuses the sixth of a row in ten seconds.
RESTART = "systemctl reset-failed {0}; systemctl restart {0}"
NETWORKD = {
    "networkd is restarted": RESTART.format("systemd-networkd"),
    "networkd reads its files again": "networkctl reload",
    "networkd reads files of ours that have changed": (
        "touch /etc/systemd/network/*.network.d/50-source-routing.conf; networkctl reload"
    ),
    "networkd configures the NIC anew": "networkctl reconfigure {nic}",
    "the link flaps": FLAP,
}
NETWORK_MANAGER = {
    "NetworkManager is restarted": RESTART.format("NetworkManager"),
    "the connections are read again": "nmcli connection reload",
    "the device is reapplied": "nmcli device reapply {nic}",
    "the connection goes down and up": (
        "id=$(nmcli -g GENERAL.CONNECTION device show {nic}); "
        'nmcli connection down "$id" && nmcli connection up "$id"'
    ),
    "the link flaps": FLAP,
}
# A mere renewal would do as well, 105 seconds later: networkd does not hear the
# refusal of a lease that it renews from the server directly, only by broadcast.
RENEW_NETWORKD = "networkctl reconfigure {nic}"
IFUPDOWN = {
    "the NIC goes down and up": "ifdown {nic}; ifup {nic}",
    "networking is restarted": RESTART.format("networking"),
    "the link flaps": KEEP_ADDRESSES + FLAP,
    RENAMED: KEEP_ADDRESSES + RENAME,
}
RENEW_MANAGER = "nmcli connection up $(nmcli -g GENERAL.CON-UUID device show {nic})"
NETPLAN = {
    "netplan generates": f"netplan generate; {UDEV}",
    "netplan applies": "PATH=/opt/no-udev:$PATH netplan apply",
}
NETPLAN_OVER_NETWORKD = {
    **NETPLAN,
    # As its generator does with all, for as long as it takes, when systemd is reloaded.
    "netplan writes the NIC's file anew while an apply runs": (
        "mv /run/systemd/network/10-netplan-{nic}.network /run/; source-routing apply; "
        "mv /run/10-netplan-{nic}.network /run/systemd/network/"
    ),
}
# 252 then waits for the kernel to take that address away, which was never there, and sets
# it no more.  It happens by itself, to any NIC, when two configurations follow each other
# closely; here the address waits for its turn, since a duplicate is looked for first.
# By the NIC's name: to read files anew may end the leases of the others.
LOST = {
    "networkd lets go of a lease whose address it has not set yet": (
        "file=/etc/systemd/network/10-netplan-ens4.network.d/90-lab.conf; "
        "mkdir -p ${{file%/*}}; printf '[DHCPv4]\\nSendDecline=yes\\n' >$file; "
        "networkctl reload; sleep 2; networkctl reconfigure ens4; sleep 2; "
        "rm $file; networkctl reload"
    )
}

# What others do beside the network manager.
BRIDGE = (
    "ip link add docker9 type bridge; ip address add 172.30.0.1/16 dev docker9; "
    "ip link set docker9 up; sleep 1; ip link del docker9"
)
VPN = (
    "ip link add vpn9 type veth peer name vpn9-peer; ip link set vpn9-peer up; "
    "ip link set vpn9 up; ip address add 10.99.0.2/24 dev vpn9; "
    "for half in 0.0.0.0/1 128.0.0.0/1; do ip route add $half via 10.99.0.1 dev vpn9; done; "
    "sleep 1; ip link del vpn9"
)
FLUSH_RULES = (
    "for family in -4 -6; do for priority in 5000 5010 5020 5030 5035 5040; do "
    "while ip $family rule del priority $priority 2>/dev/null; do :; done; done; done"
)
MOVE_ADDRESS = (
    "read -r _ _ _ address _ <<END\n$(ip -o -4 address show dev {nic} scope global)\nEND\n"
    "ip address del $address dev {nic}; sleep 1; ip address replace $address dev {nic}"
)
# What nobody may notice: of the server's own NICs none is concerned.
HARMLESS = {
    "a bridge for containers comes and goes": BRIDGE,
    "a VPN takes the default and gives it back": VPN,
}
FOREIGN = {
    **HARMLESS,
    "somebody flushes our rules": FLUSH_RULES,
    "somebody flushes the NIC's table": (
        "ip -4 route flush table {nic}; ip -6 route flush table {nic} 2>/dev/null || :"
    ),
    "somebody resets the NIC's group": "ip link set dev {nic} group default",
    RENAMED: RENAME,
}

# How somebody configures a NIC that was plugged into the running server: its own
# default must not compete with the one that is there.
HOT_IFUPDOWN = (
    "printf 'iface {nic} inet static\n address {address}\n gateway {gateway}\n metric 900\n'"
    " >/etc/network/interfaces.d/60-hot; ifdown --force {nic} 2>/dev/null; ifup {nic}"
)
HOT_NETWORKD = (
    "printf '[Match]\nName={nic}\n[Network]\nAddress={address}\n[Route]\nGateway={gateway}\n"
    "Metric=900\n' >/etc/systemd/network/60-hot.network; "
    # 257 refuses while it is at it for somebody else.
    "until networkctl reload; do sleep 0.2; done"
)
HOT_NETPLAN = (
    "printf 'network: {{version: 2, ethernets: {{{nic}: {{addresses: [{address}], "
    "routes: [{{to: default, via: {gateway}, metric: 900}}]}}}}}}' >/etc/netplan/60-hot.yaml; "
    "chmod 600 /etc/netplan/60-hot.yaml; PATH=/opt/no-udev:$PATH netplan apply"
)
HOT_NETWORK_MANAGER = (
    "nmcli connection delete hot >/dev/null 2>&1 || :; "
    "nmcli connection add type ethernet con-name hot ifname {nic} "
    "ipv4.method manual ipv4.addresses {address} ipv4.gateway {gateway} "
    "ipv4.route-metric 900 ipv6.method disabled; "
    # It has begun to configure the NIC with DHCP by itself.
    "nmcli connection up hot"
)
# Or without it: NetworkManager is told to keep out, the others do not care.
BY_HAND = (
    "! command -v nmcli >/dev/null || nmcli device set {nic} managed no || :; "
    "ip link set {nic} up; ip address replace {address} dev {nic}; "
    "ip route add default via {gateway} dev {nic} metric 900"
)
# For the next boot, which would wait for it.
COLD = (
    "rm -f /etc/network/interfaces.d/60-hot /etc/systemd/network/60-hot.network "
    "/etc/netplan/60-hot.yaml /run/systemd/network/10-netplan-ens9.network; "
    "! command -v nmcli >/dev/null || nmcli connection delete hot"
)


@dataclass(frozen=True)
class World:
    """One image and how its NICs are configured; `events` are shell commands in it."""

    suite: str
    variant: str
    renderer: str
    events: Mapping[str, str]
    reload: str  # makes the manager read its files, which have not changed
    renew: str  # makes it ask for its lease again
    hot: str  # configures the NIC {nic}, new to it, with {address} and {gateway}
    dhcp: bool = False
    nics: int = 2
    kernel: bool = False  # an image that other tests boot too
    # Packets, one each 20 ms, that NICs may lose to what happens to another one.
    may_lose: int = 0
    overlay: Mapping[str, str] = field(default_factory=dict)  # files put over the image

    @property
    def happenings(self) -> Mapping[str, str]:
        """What happens to it: where all is static and released, also by other hands."""
        foreign = {} if self.dhcp or self.suite == "sid" else FOREIGN
        # The world's own word counts where both have one.
        return {**self.events, **foreign, **self.events}

    @property
    def name(self) -> str:
        return f"{self.suite}-{self.variant}" + ("-dhcp" if self.dhcp else "")

    @property
    def recipe(self) -> recipe.Recipe:
        return recipe.Recipe(self.suite, self.variant, kernel=self.kernel)

    def lay_over(self, scratch: Path) -> list[Path]:
        """The overlay as a lower directory; [] when there is none."""
        if not self.overlay:
            return []
        tree = scratch / f"overlay-{self.name}"
        for name, text in self.overlay.items():
            path = tree / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o600)
        return [tree]


_WORLDS = (
    *(
        World(
            "bookworm",
            "ifupdown",
            "ifupdown",
            IFUPDOWN,
            "ifup -a",
            "ifdown {nic}; ifup {nic}",
            HOT_IFUPDOWN,
            dhcp=dhcp,
            nics=nics,
            kernel=True,
        )
        for dhcp, nics in ((False, 4), (True, 2))
    ),
    *(
        World(
            suite,
            "networkd",
            "networkd",
            NETWORKD,
            "networkctl reload",
            RENEW_NETWORKD,
            HOT_NETWORKD,
            dhcp=dhcp,
            nics=nics,
        )
        for suite, dhcp, nics in (
            ("trixie", False, 2),
            ("trixie", True, 4),
            ("sid", False, 2),
            ("sid", True, 4),
        )
    ),
    # Not of sid: its netplan asks udev, which a container has not, in more ways.
    *(
        World(
            suite,
            "netplan",
            "netplan",
            {
                **NETWORKD,
                **NETPLAN_OVER_NETWORKD,
                **(LOST if (suite, dhcp) == ("bookworm", True) else {}),
            },
            "networkctl reload",
            RENEW_NETWORKD,
            HOT_NETPLAN,
            dhcp=dhcp,
            nics=nics,
            # networkd 252 takes the rules that all NICs share away with one that goes
            # down, and sets them again.
            may_lose=5 if suite == "bookworm" else 0,
            overlay=UDEV_FILE,
        )
        for suite, dhcp, nics in (
            ("bookworm", False, 2),
            ("bookworm", True, 4),
            ("trixie", False, 4),
            ("trixie", True, 2),
        )
    ),
    *(
        World(
            suite,
            "network-manager",
            "network-manager",
            NETWORK_MANAGER,
            "nmcli connection reload",
            RENEW_MANAGER,
            HOT_NETWORK_MANAGER,
            dhcp=dhcp,
            nics=nics,
        )
        for suite, dhcp, nics in (
            ("bookworm", False, 2),
            ("trixie", False, 4),
            ("trixie", True, 2),
            ("sid", False, 4),
        )
    ),
    World(
        "trixie",
        "netplan-nm",
        "netplan",
        {**NETWORK_MANAGER, **NETPLAN},
        "nmcli connection reload",
        RENEW_MANAGER,
        HOT_NETWORK_MANAGER,
        overlay={
            **UDEV_FILE,
            "/etc/netplan/00-renderer.yaml": (
                "network:\n  version: 2\n  renderer: NetworkManager\n"
            ),
        },
    ),
)
WORLDS = {world.name: world for world in _WORLDS}
# One of each manager, between them two releases, static addresses and leases.
DEFAULT = (
    "bookworm-ifupdown",
    "trixie-networkd-dhcp",
    "trixie-netplan",
    "trixie-network-manager",
)
