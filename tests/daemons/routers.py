"""Routers that advertise themselves: real radvd and dnsmasq, and what they are told to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .machine import Machine
from .roots import root_tree


def router_tree() -> Path:
    return root_tree("router")


@dataclass(frozen=True)
class Prefix:
    """A prefix information option (RFC 4861 4.6.2), for addresses that hosts make themselves."""

    network: str
    preferred: int = 600
    valid: int = 1200
    autonomous: bool = True

    def conf(self) -> str:
        return (
            f"prefix {self.network} {{ AdvOnLink on; "
            f"AdvAutonomous {'on' if self.autonomous else 'off'}; "
            f"AdvPreferredLifetime {self.preferred}; AdvValidLifetime {self.valid}; }};\n"
        )


@dataclass(frozen=True)
class Advertisement:
    """What a router says on one link; lifetime 0: that it is no default router."""

    device: str
    prefixes: tuple[Prefix, ...] = ()
    lifetime: int = 1800
    preference: str = "medium"  # RFC 4191
    managed: bool = False  # ask DHCPv6 for addresses
    more: str = field(default="", repr=False)

    def conf(self) -> str:
        return (
            f"interface {self.device} {{\nAdvSendAdvert on; MinRtrAdvInterval 3; "
            f"MaxRtrAdvInterval 4; AdvDefaultLifetime {self.lifetime};\n"
            f"AdvDefaultPreference {self.preference};\n"
            f"AdvManagedFlag {'on' if self.managed else 'off'};\n"
            f"{self.more}{''.join(prefix.conf() for prefix in self.prefixes)}}};\n"
        )


class Radvd:
    """radvd(8) in a machine that forwards IPv6."""

    def __init__(self, machine: Machine):
        self.machine = machine

    def says(self, *advertisements: Advertisement) -> None:
        """(Re)start it with other words, without a goodbye of the old ones."""
        self.dies()
        self.machine.write("/etc/radvd.conf", "".join(one.conf() for one in advertisements))
        self.machine.run("radvd", "-C", "/etc/radvd.conf", "-p", "/run/radvd.pid", "-m", "syslog")

    def leaves(self) -> None:
        """End it in order: it says goodbye, which is an advertisement with lifetime 0."""
        self._kill("TERM")
        self.machine.run("rm", "-f", "/run/radvd.pid")

    def dies(self) -> None:
        self._kill("KILL")
        self.machine.run("rm", "-f", "/run/radvd.pid")

    def leases(self, *addresses: str) -> None:
        """Run a DHCPv6 server beside it, that has one address for each link."""
        self.machine.run(
            "dnsmasq",
            *("--conf-file=/dev/null", "--port=0", "--user=root", "--bind-dynamic"),
            *("--pid-file=/run/dnsmasq.pid", "--dhcp-leasefile=/run/dnsmasq.leases"),
            *("--dhcp-authoritative", "--interface=br1", "--interface=br2"),
            *(f"--dhcp-range={address},{address},64,10m" for address in addresses),
        )

    def _kill(self, signal: str) -> None:
        script = f"""
            pid=$(cat /run/radvd.pid 2>/dev/null) || exit 0
            kill -{signal} "$pid" || exit 0
            while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
        """
        self.machine.run("sh", "-c", script)
