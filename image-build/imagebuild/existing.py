"""Bake the module into an existing disk image: change a copy, and rename it at the end.

There are two ways: a loop mount with chroot, and virt-customize, which also opens
images with LVM or btrfs subvolumes.  Both use the same installer, and verify the
result before it gets its final name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from . import (
    asking,
    clean,
    diskfile,
    home,
    install,
    labels,
    partitions,
    payload,
    provenance,
    roottree,
    verify,
)
from .chroot import ENVIRONMENT, UNSHARE
from .command import attempt, run
from .errors import BuildError
from .progress import Progress
from .provenance import Contents

LOOP, VIRT_CUSTOMIZE = "loop", "virt-customize"

# Space for packages, bytecode and apt's downloads.
_ROOM = 64 << 20

# libguestfs' messages when its appliance does not start (guestfs-faq(1)).
_NOT_STARTED = ("guestfs_launch failed", "supermin exited with error", "supermin: ")

# The packages that an image may lack, as its package manager names them.
_NEEDS = ("python3-pyroute2", "python3-jinja2", "python3-jsonschema", "python3-yaml")
_INSTALLERS: Mapping[str, str] = {
    "usr/bin/apt-get": "apt-get -q update && DEBIAN_FRONTEND=noninteractive "
    "apt-get -q -y --no-install-recommends install {}",
    "usr/bin/dnf": "dnf -q -y --setopt=install_weak_deps=False install {}",
    "usr/bin/zypper": "zypper -q -n install --no-recommends {}",
}

# Uses this machine's network and apt proxy, and leaves nothing of them behind: /run is
# a tmpfs, and a bind mount covers resolv.conf.
_ENTER_WITH_NETWORK = """
set -eu
root=$1
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount --rbind /dev "$root/dev"
if [ -L "$root/etc/resolv.conf" ]; then
    mkdir -p "$root/run/systemd/resolve"
    for name in resolv.conf stub-resolv.conf; do
        cat /etc/resolv.conf >"$root/run/systemd/resolve/$name"
    done
elif [ -e "$root/etc/resolv.conf" ]; then
    mount --bind -o ro /etc/resolv.conf "$root/etc/resolv.conf"
fi
printf '%s' "$2" >"$root/run/source-routing-apt.conf"
export APT_CONFIG=/run/source-routing-apt.conf
exec chroot "$root" sh -euc "$3"
"""

# ELF machine numbers and their names in os.uname().
_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 21: "ppc64le", 22: "s390x"}
_MACHINES[243] = "riscv64"


class Baked(NamedTuple):
    """The result of baking."""

    changed: bool  # False: the image already had the module
    contents: Contents | None  # None: this machine cannot open the image


def bake(
    image: Path,
    output: Path,
    default_stanza: str | None,
    progress: Progress,
    *,
    way: str | None = None,
    compress: bool = True,
) -> Baked:
    """Write `image` with the module to `output`, which may be the same file.

    Without a `way`, virt-customize is used if it works, else a loop mount, with a message.
    Call `diskfile.private_mounts` before.  On any failure `image` stays unchanged.
    """
    kind = diskfile.inspect(image).format
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".bake-") as name:
        scratch = Path(name)
        raw = scratch / "disk.raw"
        with progress.step("copying the image"):
            diskfile.to_raw(image, raw)
        if output.exists() and output.samefile(image):
            held = _already(raw, default_stanza)
            if held is not None:
                return Baked(False, held)
        try:
            held = _by(way, raw, scratch / "root", default_stanza, progress)
        except (BuildError, OSError) as error:
            # Name the image in the message instead of the temporary mount point.
            text = str(error).replace(f"{scratch}/root", str(image))
            raise BuildError(text if str(image) in text else f"{image}: {text}") from error
        with progress.step("writing the new image"):
            finished = scratch / "finished"
            squeeze = ["-c"] if compress and kind == "qcow2" else []
            argv = ["qemu-img", "convert", "-f", "raw", "-O", kind, *squeeze]
            run([*argv, raw, finished], timeout=1800)
            if not _is_still(finished, kind):
                raise BuildError(f"{image} would begin as another format's image does afterwards")
            shutil.copymode(image, finished)
        os.replace(finished, output)
    return Baked(True, held)


def _is_still(finished: Path, kind: str) -> bool:
    """Whether the image still has its format: programs in a raw image may change its header."""
    try:
        return diskfile.inspect(finished).format == kind
    except BuildError:
        return False


def _already(raw: Path, stanza: str | None) -> Contents | None:
    """The image's contents if baking would change nothing; tried where writes have no effect."""
    with contextlib.suppress(BuildError), verify.look_into(raw) as root:
        if install.present(root) and not verify.findings(root).faults:
            if not install.install(root, stanza).changed:
                return provenance.contents(root)
    return None


def _by(
    way: str | None, raw: Path, root: Path, stanza: str | None, progress: Progress
) -> Contents | None:
    if way == LOOP:
        return _by_loop(raw, root, stanza, progress)
    why = "there is no virt-customize (package guestfs-tools)"
    if way == VIRT_CUSTOMIZE or shutil.which(VIRT_CUSTOMIZE):
        try:
            return _by_virt_customize(raw, stanza, progress)
        except _NoAppliance as error:
            if way == VIRT_CUSTOMIZE:
                raise
            why = f"virt-customize does not work here ({error})"
    progress.say(
        f"By a loop mount, since {why}: this kernel reads the image's file systems, and its "
        "programs run here as root; only for images that you trust."
    )
    return _by_loop(raw, root, stanza, progress)


class _NoAppliance(BuildError):
    """libguestfs could not start its appliance; the image is unchanged."""


def _by_loop(raw: Path, root: Path, stanza: str | None, progress: Progress) -> Contents:
    diskfile.mount_root(raw, root, read_only=False)
    try:
        _check_kind(root)
        for place in ("", *partitions.NEEDED):
            there = root / place[1:]
            if there.is_dir() and shutil.disk_usage(there).free < _ROOM:
                raise BuildError(
                    f"{root}{place}: No space left in the image, {_ROOM >> 20} MiB are needed; "
                    "`qemu-img resize` and growing its file system make some"
                )
        lacking = install.lacking(root)
        if lacking:
            with progress.step(f"installing {' '.join(lacking)} into it"):
                _install_packages(root, lacking)
        with progress.step("baking the module into it"):
            install.install(root, stanza)
            clean.clean(root)
            labelled = labels.restore(root)
        if labelled:
            progress.say(labelled)
        found = verify.findings(root)
        if found.faults:
            raise BuildError(f"{root} would not serve: {'; '.join(found.faults)}")
        _warn(found.warnings, progress)
        return provenance.contents(root)
    finally:
        run(["umount", "--recursive", root])


def _install_packages(root: Path, packages: list[str]) -> None:
    known = [how for program, how in _INSTALLERS.items() if (root / program).exists()]
    if not known:
        raise BuildError(f"{root} lacks {' '.join(packages)}, and has no package manager known")
    settings = "".join(f'{name} "{value}";\n' for name, value in roottree.inherited_apt_options())
    enter = [*UNSHARE, "sh", "-c", _ENTER_WITH_NETWORK, "enter", str(root), settings]
    argv = [*enter, known[0].format(" ".join(packages))]
    done = attempt(argv, timeout=1800, env=ENVIRONMENT)
    if done.returncode != 0:
        raise BuildError(f"{root}: installing {' '.join(packages)}: {done.reason}")


def _check_kind(root: Path) -> None:
    if not (root / "etc/cloud/cloud.cfg").is_file():
        raise BuildError(f"{root} has no /etc/cloud/cloud.cfg: it is no image with cloud-init")
    _check_machine(root)
    # Report faults before packages are installed, not only in the finished image.
    found = asking.first_boot(root, home.find(root).python)
    if found.faults:
        raise BuildError(f"{root} would not serve: {'; '.join(found.faults)}")


def _check_machine(root: Path) -> None:
    """Raise a clear error if this machine cannot run the image's programs (ENOEXEC)."""
    program = (root / "usr/bin/env").resolve()
    try:
        head = program.read_bytes()[:20]
    except OSError as error:
        raise BuildError(f"{root} has no /usr/bin/env: no Linux that can be entered") from error
    number = int.from_bytes(head[18:20], "little" if head[5:6] == b"\x01" else "big")
    machine, here = _MACHINES.get(number, f"ELF machine {number}"), os.uname().machine
    works = attempt(["chroot", root, "/usr/bin/env", "true"]).returncode == 0
    if not works:
        raise BuildError(f"{root} is for {machine}, its programs do not run on this {here}")


def _by_virt_customize(raw: Path, stanza: str | None, progress: Progress) -> Contents | None:
    """Bake in libguestfs' appliance, into which the checkout is copied."""
    lacking = _looked_at(raw)
    place = "/var/lib/source-routing-bake"
    with tempfile.TemporaryDirectory(dir=raw.parent, prefix="carried-") as name:
        carried = Path(name) / Path(place).name
        for entry in ("cc_source_routing", "templates", "image-build", "setup.cfg"):
            source, target = payload.CHECKOUT / entry, carried / entry
            if source.is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target, symlinks=True, ignore=skip)
            else:
                shutil.copyfile(source, target)
        (carried / "stanza.yaml").write_text(stanza or "")
        installer = f"python3 {place}/image-build/install-into /"
        if stanza is not None:
            installer += f" --default-stanza {place}/stanza.yaml"
        cleaning = (
            f"import sys; sys.path.insert(0, '{place}/image-build'); "
            "from pathlib import Path; from imagebuild import clean; clean.clean(Path('/'))"
        )
        argv: list[str] = ["virt-customize", "--quiet", "--format", "raw", "--add", str(raw)]
        argv += ["--copy-in", f"{carried}:{Path(place).parent}"]
        # --install downloads package lists even if nothing is missing.
        argv += ["--install", ",".join(lacking)] if lacking else []
        argv += ["--run-command", installer]
        argv += ["--run-command", f'python3 -B -c "{cleaning}"', "--delete", place]
        # Later releases relabel by default; without labels in the image it has no effect.
        argv += ["--truncate", "/etc/machine-id", "--selinux-relabel"]
        with progress.step("baking the module into it with virt-customize"):
            done = attempt(argv, timeout=3600)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        # The error is followed by advice on reporting bugs.
        errors = [line for line in said if line.startswith("virt-customize: error: ")]
        text = errors[0] if errors else done.reason
        started = not any(word in line for line in said for word in _NOT_STARTED)
        raise BuildError(text) if started else _NoAppliance(text)
    try:
        with verify.look_into(raw) as root:
            found, held = verify.findings(root), provenance.contents(root)
    except BuildError as error:
        progress.say(f"The result was not verified: {error}")  # LVM, or another machine's
        return None
    if found.faults:
        raise BuildError(f"it would not serve: {'; '.join(found.faults)}")
    _warn(found.warnings, progress)
    return held


def _warn(warnings: list[str], progress: Progress) -> None:
    for warning in warnings:
        progress.say(f"Warning: {warning}")


def _looked_at(raw: Path) -> list[str]:
    """The packages that the image lacks; all of them if this machine cannot open the image."""
    with contextlib.ExitStack() as stack:
        try:
            root = stack.enter_context(verify.look_into(raw))
        except BuildError:
            return list(_NEEDS)  # LVM
        try:
            _check_kind(root)
            return install.lacking(root)
        except BuildError as error:
            raise BuildError(str(error).replace(str(root), "it")) from error


def programs(way: str | None) -> Mapping[str, str]:
    """The programs that `way` needs on this machine: program -> Debian package."""
    more = {"virt-customize": "guestfs-tools"} if way == VIRT_CUSTOMIZE else {}
    return {**diskfile.PROGRAMS, **more}
