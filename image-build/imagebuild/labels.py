"""Set SELinux labels on files written into an image by a kernel that lacks the image's policy.

The installer, `register` and the image's package manager write files without a label, and
an enforcing kernel then denies cloud-init access to them.  So unlabelled files get a label:
from the image's own setfiles(8), which needs no SELinux in the running kernel, else from
neighbouring files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from . import partitions
from .chroot import attempt_in

ATTRIBUTE = "security.selinux"  # selinux/flask.h's XATTR_NAME_SELINUX
AUTORELABEL = ".autorelabel"  # selinux-autorelabel(8): label all files at the next boot

_CONFIG = "etc/selinux/config"
# On a running server these are other file systems, or labelled when mounted.
_NOT_OF_THE_IMAGE = frozenset({"proc", "sys", "dev", "run", "tmp"})
# Directories that systemd and cloud-init must be able to read.
_MATTERS = ("etc", "usr")


def policy(root: Path) -> str | None:
    """The name of the image's SELinux policy; None if it has none or no labels."""
    config = root / _CONFIG
    if partitions.inside(root, "/etc/selinux") is None or config.is_symlink():
        return None
    if not config.is_file() or _label(root / "etc") is None:
        return None  # perhaps installed, but never labelled
    lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and line[:1] != "#")
    on = settings.get("SELINUX", "").strip().lower() in ("enforcing", "permissive")
    return settings.get("SELINUXTYPE", "targeted").strip() if on else None


def fault(root: Path) -> list[str]:
    """A sentence if files that the boot needs have no label."""
    if policy(root) is None or os.path.lexists(root / AUTORELABEL):
        return []
    parts = [part for part in _MATTERS if partitions.inside(root, part) is not None]
    bare = [name for part in parts for name in _unlabelled(root, part)]
    if not bare:
        return []
    more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
    return [f"/{bare[0]}{more}: no SELinux label, which the image's policy asks for"]


def restore(root: Path) -> str | None:
    """Label all unlabelled files; returns a sentence on how, or None if there were none.

    Files that cannot be labelled here are labelled at the image's first boot.
    """
    name = policy(root)
    if name is None or os.path.lexists(root / AUTORELABEL):
        return None
    bare = list(_unlabelled(root))
    if not bare:
        return None
    _by_setfiles(root, name, bare)
    left = [path for path in bare if _label(root / path) is None]
    for path in left:  # directories come before their contents
        _as_neighbours(root / path)
    unlike = [path for path in left if _label(root / path) is None]
    if unlike:
        open(root / AUTORELABEL, "xb").close()  # does not follow an existing link
        return (
            f"/{unlike[0]} could not be given its SELinux label: the image labels all its files "
            f"at its first boot (/{AUTORELABEL}), which takes longer and ends in a reboot."
        )
    how = "its neighbours have" if left else "the image's own setfiles says"
    return f"{len(bare)} files got the SELinux labels that {how}."


def _by_setfiles(root: Path, name: str, paths: list[str]) -> None:
    contexts = f"/etc/selinux/{name}/contexts/files/file_contexts"
    # -m: without SELinux in the kernel, no file system is mounted with label support.
    argv = ["setfiles", "-m", "-F", "-0", "-f", "-", contexts]
    # setfiles may be missing or of another kind; the caller checks the labels.
    attempt_in(root, argv, stdin="".join(f"/{path}\0" for path in paths), timeout=900)


def _as_neighbours(path: Path) -> None:
    """Set the label that most files of its kind beside it have, else the directory's."""
    kind = _kind(path)
    beside = [other for other in path.parent.iterdir() if other != path and _kind(other) == kind]
    known = [label for label in map(_label, beside) if label is not None]
    label = Counter(known).most_common(1)[0][0] if known else _label(path.parent)
    if label is not None:
        try:
            os.setxattr(path, ATTRIBUTE, label, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EPERM):
                raise


def _kind(path: Path) -> tuple[int, str]:
    return stat.S_IFMT(path.lstat().st_mode), path.suffix


def _label(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, ATTRIBUTE, follow_symlinks=False)
    except OSError:
        return None


def _unlabelled(root: Path, part: str = "") -> Iterator[str]:
    """Paths below the root without a label, on file systems that support labels."""
    for directory, directories, files in os.walk(root / part):
        if directory == str(root):
            directories[:] = [name for name in directories if name not in _NOT_OF_THE_IMAGE]
        for name in sorted(directories) + sorted(files):
            path = os.path.join(directory, name)
            try:
                os.getxattr(path, ATTRIBUTE, follow_symlinks=False)
            except OSError as error:
                if error.errno == errno.ENODATA:
                    yield os.path.relpath(path, root)
