"""The network managers that are served, each as an image and with what can happen to it."""

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
# veths have no permanent MAC.
UDEV = "/opt/no-udev/udevadm"
UDEV_FILE = {
    UDEV: "#!/bin/sh\n"
    "sed -i s/^PermanentMACAddress=/MACAddress=/ /run/systemd/network/*.network 2>/dev/null\n"
    "exit 0\n"
}

NETWORKD = {
    "networkd is restarted": "systemctl restart systemd-networkd",
    "networkd reads its files again": "networkctl reload",
    "networkd configures the NIC anew": "networkctl reconfigure {nic}",
    "the link flaps": FLAP,
}
NETWORK_MANAGER = {
    "NetworkManager is restarted": "systemctl restart NetworkManager",
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
RENEW_MANAGER = "nmcli connection up $(nmcli -g GENERAL.CON-UUID device show {nic})"
NETPLAN = {
    "netplan generates": f"netplan generate; {UDEV}",
    "netplan applies": "PATH=/opt/no-udev:$PATH netplan apply",
}


@dataclass(frozen=True)
class World:
    """One image and how its NICs are configured; `events` are shell commands in it."""

    suite: str
    variant: str
    renderer: str
    events: Mapping[str, str]
    reload: str  # makes the manager read its files, which have not changed
    renew: str  # makes it ask for its lease again
    dhcp: bool = False
    overlay: Mapping[str, str] = field(default_factory=dict)  # files put over the image

    @property
    def name(self) -> str:
        return f"{self.suite}-{self.variant}" + ("-dhcp" if self.dhcp else "")

    @property
    def recipe(self) -> recipe.Recipe:
        return recipe.Recipe(self.suite, self.variant, kernel=False)

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
    World("trixie", "networkd", "networkd", NETWORKD, "networkctl reload", RENEW_NETWORKD),
    World(
        "trixie", "networkd", "networkd", NETWORKD, "networkctl reload", RENEW_NETWORKD, dhcp=True
    ),
    *(
        World(
            suite,
            "netplan",
            "netplan",
            {**NETWORKD, **NETPLAN},
            "networkctl reload",
            RENEW_NETWORKD,
            dhcp=dhcp,
            overlay=UDEV_FILE,
        )
        for suite in ("trixie", "bookworm")
        for dhcp in (False, True)
    ),
    *(
        World(
            "trixie",
            "network-manager",
            "network-manager",
            NETWORK_MANAGER,
            "nmcli connection reload",
            RENEW_MANAGER,
            dhcp=dhcp,
        )
        for dhcp in (False, True)
    ),
    World(
        "trixie",
        "netplan-nm",
        "netplan",
        {**NETWORK_MANAGER, **NETPLAN},
        "nmcli connection reload",
        RENEW_MANAGER,
        overlay={
            **UDEV_FILE,
            "/etc/netplan/00-renderer.yaml": (
                "network:\n  version: 2\n  renderer: NetworkManager\n"
            ),
        },
    ),
)
WORLDS = {world.name: world for world in _WORLDS}
