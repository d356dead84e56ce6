"""A golden image: a root tree with the module installed, cleaned; then a disk of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Optional

from . import cache, clean, disk, install, payload, recipe, roottree
from .chroot import run_in
from .command import attempt, run
from .progress import Progress
from .recipe import Recipe


def baked_root(
    wanted: Recipe,
    progress: Progress,
    *,
    module: bool = True,
    default_stanza: Optional[str] = None,
    refresh: bool = False,
) -> Path:
    """The finished tree, from the cache where nothing that it is made of has changed."""
    base = roottree.base(wanted, progress, refresh=refresh)
    flavour = ("" if module else "-plain") + ("" if default_stanza is None else "-default")
    identity = cache.key(base.name, payload.fingerprint(), default_stanza or "")

    def make(path: Path) -> None:
        with progress.step(f"baking the module into a copy of {base.name}"):
            run(["cp", "-a", "--reflink=auto", base, path], timeout=600)
            if module:
                install.install(path, default_stanza)
            if wanted.kernel:
                disk.add_boot_files(path)
            clean.clean(path)

    return cache.remembered(f"baked-{wanted.name}{flavour}", identity, make, refresh=refresh)


def disk_image(
    wanted: Recipe,
    progress: Progress,
    *,
    module: bool = True,
    default_stanza: Optional[str] = None,
    compress: bool = False,
    refresh: bool = False,
) -> Path:
    """The same as a bootable qcow2."""
    tree = baked_root(
        wanted, progress, module=module, default_stanza=default_stanza, refresh=refresh
    )
    # The tree's name tells all that went into it; the tree itself tells how it is written.
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


def manifest(tree: Path, wanted: Recipe) -> Dict[str, Any]:
    """What is in an image and where it came from."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}\\n"]
    rows = [line.split(" ") for line in run_in(tree, query).splitlines()]
    return {
        "suite": wanted.suite,
        "variant": wanted.variant,
        "source": {
            "name": payload.project().name,
            "version": payload.project().version,
            "commit": source_commit(),
            "sha256": payload.fingerprint(),
        },
        "packages": [
            {"name": name, "version": version, "architecture": architecture}
            for name, version, architecture in rows
        ],
    }


def source_commit() -> str:
    """The commit of this checkout, with "-dirty" when files differ; "" outside of git."""
    # The checkout may be another user's: sudo.
    git = ["git", "-c", f"safe.directory={payload.CHECKOUT}", "-C", payload.CHECKOUT]
    told = attempt([*git, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"])
    return told.stdout.strip() if told.returncode == 0 else ""


def write_manifest(tree: Path, wanted: Recipe, image: Path) -> None:
    """FILE.manifest.json and FILE.sha256 beside the image."""
    text = json.dumps(manifest(tree, wanted), indent=1) + "\n"
    Path(f"{image}.manifest.json").write_text(text, encoding="utf-8")
    digest = hashlib.sha256()
    with open(image, "rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    Path(f"{image}.sha256").write_text(f"{digest.hexdigest()}  {image.name}\n")


def upload_command(image: Path, wanted: Recipe) -> str:
    """What to type to put it into Glance, with the properties that it wants."""
    properties = {
        "os_distro": "debian",
        "os_version": recipe.VERSIONS[wanted.suite],
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
        "hw_rng_model": "virtio",
        "hw_qemu_guest_agent": "yes",
    }
    lines = [
        f"openstack image create debian-{wanted.suite}-source-routing",
        f"--file {image} --disk-format qcow2 --container-format bare --min-disk 2",
        *(f"--property {name}={value}" for name, value in properties.items()),
    ]
    return " \\\n    ".join(lines)
