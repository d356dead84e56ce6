"""Check whether an image's servers will work, without booting or changing it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import asking, diskfile, home, install, labels, modulelist, partitions, payload, traces
from .asking import Findings
from .chroot import attempt_in
from .command import run
from .errors import BuildError
from .home import Home
from .traces import Trace

# Files that `clean` removes by way of cloud-init, `source-routing remove` or find(1).
_TAKEN_BY_OTHERS: tuple[Trace, ...] = (
    Trace("var/lib/cloud/instance", "cloud-init's state of an instance"),
    Trace("var/lib/cloud/instances/*", "cloud-init's state of an instance"),
    Trace("var/lib/cloud/seed/*", "a seed for cloud-init"),
    Trace("var/log/cloud-init*.log", "cloud-init's log"),
    Trace("var/lib/apt/lists/*_*", "a package list"),
    Trace("var/cache/apt/archives/*.deb", "a downloaded package"),
    Trace("etc/source-routing/*", "what was rendered for one server's NICs"),
    # Those of 0.1.0, and of an installation by pip.
    Trace("etc/systemd/system/source-routing*", "a unit that one server's apply has written"),
)

_GOOD = "#cloud-config\nsource_routing:\n  gateway_guess: never\n"
_BAD = "#cloud-config\nsource_routing:\n  gateway_gues: never\n"


@contextlib.contextmanager
def look_into(image: Path) -> Iterator[Path]:
    """The root of a disk image or of a directory, in which writes have no effect.

    Call `diskfile.private_mounts` before.
    """
    with tempfile.TemporaryDirectory(prefix="verify-") as name:
        scratch = Path(name)
        below, root = scratch / "below", scratch / "root"
        if image.is_dir():
            below = image.resolve()
        else:
            raw = image
            if diskfile.inspect(image).format != "raw":
                raw = scratch / "disk.raw"
                diskfile.to_raw(image, raw)
            diskfile.mount_root(raw, below, read_only=True)
        memory = scratch / "memory"
        for path in (memory, root):
            path.mkdir()
        run(["mount", "-t", "tmpfs", "-o", "size=256m,nosuid,nodev", "tmpfs", memory])
        try:
            # An overlay shows only the lower file system, without the mounts below it.
            _cover(below, memory / "root", root)
            for number, inner in enumerate(partitions.mounts_below(below)):
                try:
                    _cover(below / inner, memory / str(number), root / inner)
                except BuildError:  # for example over vfat; nothing is written there anyway
                    bind = ["mount", "--bind", "-o", "ro,nosuid,nodev"]
                    run([*bind, below / inner, root / inner])
            yield root
        finally:
            for path in (root, memory, *([] if image.is_dir() else [below])):
                with contextlib.suppress(BuildError):
                    run(["umount", "--recursive", path])


def _cover(below: Path, memory: Path, place: Path) -> None:
    """Mount an overlay of `below` at `place`, in which writes have no effect."""
    for path in (memory, memory / "upper", memory / "work"):
        path.mkdir()
    options = f"nosuid,nodev,lowerdir={below},upperdir={memory}/upper,workdir={memory}/work"
    run(["mount", "-t", "overlay", "-o", options, "overlay", place])


def findings(root: Path, *, used: bool = False) -> Findings:
    """All faults and warnings about the root; `used` skips the checks for cleanliness."""
    try:
        where = home.find(root)
    except BuildError as error:
        return Findings([_one_line(str(error))], [])
    # First, since the module, when called, may remove files of an earlier boot.
    left = labels.fault(root) + ([] if used else _clean(root))
    found = _registered(root, where)
    if not used and not found.own_network:
        left += traces.sentences(root, traces.NETWORK)
    return Findings(found.faults + _as_recorded(root) + left, found.warnings)


def _registered(root: Path, where: Home) -> Findings:
    with asking.sent(root) as scratch:
        inside = f"/{scratch.relative_to(root)}"
        for title, text in (("good", _GOOD), ("bad", _BAD)):
            (scratch / f"{title}.yaml").write_text(text)
        try:
            result = asking.examine(root, where.python, scratch)
        except BuildError as error:
            result = Findings([_one_line(str(error))], [])
        found = result.faults
        for title, accepted in (("good", True), ("bad", False)):
            argv = [where.program, "schema", "--config-file", f"{inside}/{title}.yaml"]
            done = attempt_in(root, argv)
            if (done.returncode == 0) != accepted:
                verb = "refuses" if accepted else "accepts"
                found.append(f"cloud-init's schema {verb} a {title} stanza: {done.reason}")
    if not (root / payload.REGISTER.lstrip("/")).is_file():
        found.append(f"{payload.REGISTER} is missing: the next upgrade of cloud-init ends it")
        return result
    done = attempt_in(root, [payload.REGISTER, "--check"])
    if done.returncode != 0:
        found += (done.stdout + done.stderr).strip().splitlines()[-5:]
    return result


def _as_recorded(root: Path) -> list[str]:
    """Our files that differ from what was installed."""
    if (root / "var/lib/dpkg/info/source-routing.list").is_file():
        # Lines like "??5?????? c /etc/file".
        done = attempt_in(root, ["dpkg", "--verify", "source-routing"])
        lines = [line.split() for line in done.stdout.splitlines() if line]
        return [f"{words[-1]} is not as the package has it" for words in lines]
    records = [path / "RECORD" for path in install.dist_infos(root)]
    if len(records) > 1:
        return ["more than one release of it is installed"]
    found = []
    for line in records[0].read_text(encoding="utf-8").splitlines() if records else []:
        path, recorded, _size = line.rsplit(",", 2)
        # `register` rewrites that file, and has its own check.
        if not recorded or path.endswith(modulelist.MODULES_DROP_IN):
            continue
        try:
            content = (root / path.lstrip("/")).read_bytes()
        except OSError:
            found.append(f"{path} is missing")
            continue
        if recorded != payload.digest(content):
            found.append(f"{path} is not what was installed")
    return found


def _clean(root: Path) -> list[str]:
    found = []
    try:
        identity = (root / "etc/machine-id").read_text().strip()
    except OSError:
        found.append("/etc/machine-id is missing: it has to be there, empty")
    else:
        if identity not in ("", "uninitialized"):
            found.append("/etc/machine-id is not empty: all servers would be the same machine")
    return found + traces.sentences(root, traces.FILES + _TAKEN_BY_OTHERS)


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())
