"""Build a root tree from nothing with mmdebstrap, once for each recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from . import cache
from . import recipe as recipes
from .command import attempt, demand, run
from .errors import BuildError
from .progress import Progress
from .recipe import Recipe

# Programs that building a root needs, and the Debian packages that have them.
PROGRAMS: Mapping[str, str] = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux"}

# For other versions of a recipe, for example of another checkout.
_KEEP_DAYS = 7

_HERE = Path(__file__).resolve().parent

# Apt settings of this host that its package mirror may need.  Other settings of the
# host are not inherited.
_INHERITED = re.compile(
    r'^(Acquire::(?:Check-Valid-Until|Check-Date|https?::Proxy)) "([^"]*)";$', re.MULTILINE
)

# grub-pc asks for the disk to install to; there is none, imagebuild.disk installs GRUB.
_PRESEED = "grub-pc grub-pc/install_devices_empty boolean true\n"


def base(recipe: Recipe, progress: Progress, *, refresh: bool = False) -> Path:
    """The unpacked root of `recipe`, from the cache if possible.  Never write into it."""
    recipes.check(recipe)
    if os.geteuid() != 0:
        raise BuildError("building a root tree needs root: run it with sudo")
    demand(PROGRAMS)
    mirror = os.environ.get("SOURCE_ROUTING_MIRROR", "")
    # The key includes the code that builds the root.
    code = [(_HERE / name).read_text(encoding="utf-8") for name in ("recipe.py", "roottree.py")]
    date = os.environ.get("SOURCE_DATE_EPOCH", "")
    identity = cache.key(recipe.name, " ".join(recipe.packages), mirror, date, *code)

    def make(path: Path) -> None:
        title = f"installing Debian {recipe.suite} ({recipe.variant}) into a directory"
        with progress.step(title):
            _bootstrap(recipe, path, mirror)
            recipes.configure(path, recipe)

    return cache.remembered(
        f"root-{recipe.name}", identity, make, refresh=refresh, keep_days=_KEEP_DAYS
    )


def _bootstrap(recipe: Recipe, target: Path, mirror: str) -> None:
    # In a PID namespace all processes end when this one is stopped, and the tree can be removed.
    argv: list[str] = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += ["mmdebstrap", "--mode=root", "--variant=minbase", "--components=main"]
    argv.append("--include=" + ",".join(recipe.packages))
    argv += [f'--aptopt={name} "{value}"' for name, value in inherited_apt_options()]
    if recipe.kernel:
        argv.append(f"--essential-hook=echo '{_PRESEED}' | chroot \"$1\" debconf-set-selections")
    # Remove the options above: they are this host's, not the image's.
    argv.append('--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap')
    argv += [recipe.suite, str(target)] + ([mirror] if mirror else [])
    run(argv, timeout=1800, env=_clean_environment())


def inherited_apt_options() -> list[tuple[str, str]]:
    dumped = attempt(["apt-config", "dump"], timeout=30)
    return _INHERITED.findall(dumped.stdout) if dumped.returncode == 0 else []


def _clean_environment() -> Mapping[str, str]:
    """The environment without the caller's locale and frontend, which affect maintainer scripts."""
    names = ("PATH", "HOME", "TMPDIR", "SOURCE_DATE_EPOCH")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    path = kept.get("PATH", os.defpath)
    for directory in ("/usr/local/sbin", "/usr/sbin", "/sbin"):
        if directory not in path.split(":"):
            path += f":{directory}"
    return {**kept, "PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
