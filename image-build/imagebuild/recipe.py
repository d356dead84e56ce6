"""The contents of an image: suites, variants, packages and the configuration of its root."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .errors import BuildError

SUITES = ("bookworm", "trixie", "sid")

# The os_version in Glance's image properties.
VERSIONS = {"bookworm": "12", "trixie": "13", "sid": "sid"}

# In each image: an init, cloud-init, the module's dependencies, tools of any server.
#  - locales: without update-locale, cloud-init's locale module fails and so does the boot.
#  - net-tools: cloud-init's ifupdown files call `route`; without it there is
#    silently no default route.
#  - qemu-guest-agent: for OpenStack's hw_qemu_guest_agent=yes.
BASE = (
    "systemd-sysv",
    "udev",
    "dbus",
    "ca-certificates",
    "cloud-init",
    "cloud-guest-utils",
    "iproute2",
    "iputils-ping",
    "less",
    "locales",
    "net-tools",
    "openssh-server",
    "python3-jinja2",
    "python3-jsonschema",
    "python3-pyroute2",
    "qemu-guest-agent",
    "sudo",
    "vim-tiny",
)

# grub-pc updates the boot menu when a running server upgrades its kernel.
KERNEL = ("linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub-pc", "e2fsprogs")

# The network manager that configures the NICs.
VARIANTS: dict[str, tuple[str, ...]] = {
    "ifupdown": ("ifupdown", "isc-dhcp-client"),
    "netplan": ("netplan.io",),
    "networkd": (),
    "network-manager": ("network-manager",),
}

ROOT_LABEL = "cloudimg-rootfs"
SERIAL_CONSOLE = "ttyS0,115200n8"


class Recipe(NamedTuple):
    """A root tree: its Debian suite, its network manager, and whether it is bootable."""

    suite: str = "bookworm"
    variant: str = "ifupdown"
    kernel: bool = True

    @property
    def name(self) -> str:
        return f"{self.suite}-{self.variant}" + ("" if self.kernel else "-nokernel")

    @property
    def packages(self) -> tuple[str, ...]:
        wanted = BASE + VARIANTS[self.variant]
        return tuple(sorted(wanted + (KERNEL if self.kernel else ())))


def check(recipe: Recipe) -> Recipe:
    """Return the recipe; raises if its suite or variant does not exist."""
    if recipe.suite not in SUITES:
        raise BuildError(f"suite {recipe.suite}: not one of {', '.join(SUITES)}")
    if recipe.variant not in VARIANTS:
        raise BuildError(f"variant {recipe.variant}: not one of {', '.join(VARIANTS)}")
    return recipe


def configure(root: Path, recipe: Recipe) -> None:
    """Write the configuration that turns a fresh root into a server image."""
    _write(root, "etc/hostname", "debian\n")
    _write(
        root,
        "etc/hosts",
        "127.0.0.1 localhost\n127.0.1.1 debian\n"
        "::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
    )
    # An image must not contain the host's resolver; a server's network manager or
    # cloud-init writes its own.
    _write(root, "etc/resolv.conf", "")
    _write(root, "etc/default/locale", "LANG=C.UTF-8\n")
    if recipe.kernel:
        _write(root, "etc/fstab", f"LABEL={ROOT_LABEL} / ext4 errors=remount-ro 0 1\n")
        _write(
            root,
            "etc/default/grub.d/50-serial-console.cfg",
            "# For `openstack console log show`, and for the graphical console.\n"
            "GRUB_TIMEOUT=0\n"
            f'GRUB_CMDLINE_LINUX="console=tty0 console={SERIAL_CONSOLE}"\n'
            'GRUB_TERMINAL="console serial"\n',
        )
    if recipe.variant == "networkd":
        # Nothing else enables it there: netplan's generator would, cloud-init does not.
        _enable(root, "systemd-networkd.service", "multi-user.target.wants")
    if recipe.variant == "network-manager":
        # cloud-init's default order prefers other renderers if they exist.
        _write(
            root,
            "etc/cloud/cloud.cfg.d/90_network_renderer.cfg",
            "system_info:\n  network:\n    renderers: [network-manager]\n",
        )


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()  # a link might lead out of the root
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def _enable(root: Path, unit: str, target: str) -> None:
    link = root / "etc/systemd/system" / target / unit
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(f"/lib/systemd/system/{unit}")
