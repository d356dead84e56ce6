"""Make a golden image: install the module into a root tree, clean it, write it to a disk."""

from __future__ import annotations

from pathlib import Path

from . import cache, clean, disk, install, payload, roottree
from .command import run
from .progress import Progress
from .recipe import Recipe


def baked_root(
    wanted: Recipe,
    progress: Progress,
    *,
    module: bool = True,
    default_stanza: str | None = None,
    refresh: bool = False,
) -> Path:
    """The finished tree, from the cache if none of its inputs has changed."""
    base = roottree.base(wanted, progress, refresh=refresh)
    flavour = ("" if module else "-plain") + ("" if default_stanza is None else "-default")
    date = clean.source_date()
    parts = (base.name, payload.fingerprint(), default_stanza or "", str(date or ""))
    identity = cache.key(*parts)

    def make(path: Path) -> None:
        with progress.step(f"baking the module into a copy of {base.name}"):
            run(["cp", "-a", "--reflink=auto", base, path], timeout=600)
            if module:
                install.install(path, default_stanza)
            if wanted.kernel:
                disk.add_boot_files(path)
            clean.clean(path)
            if date is not None:
                clean.clamp_times(path, date)

    return cache.remembered(f"baked-{wanted.name}{flavour}", identity, make, refresh=refresh)


def disk_image(
    wanted: Recipe,
    progress: Progress,
    *,
    module: bool = True,
    default_stanza: str | None = None,
    compress: bool = False,
    refresh: bool = False,
) -> Path:
    """The same tree as a bootable qcow2 image."""
    tree = baked_root(
        wanted, progress, module=module, default_stanza=default_stanza, refresh=refresh
    )
    # The tree's name identifies all its inputs; the code of `disk` identifies how it is written.
    code = (Path(__file__).parent / "disk.py").read_text(encoding="utf-8")
    identity = cache.key(tree.name, code, str(compress))
    family = f"image-{wanted.name}" + ("-compressed" if compress else "")
    return cache.remembered(
        family,
        identity,
        lambda path: disk.build(tree, path, progress, compress=compress),
        suffix=".qcow2",
        refresh=refresh,
    )
