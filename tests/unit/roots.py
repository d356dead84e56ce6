"""Little roots with what a network manager leaves in them, for renderers to look at."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lab import demand


def checked(*argv: object) -> str:
    """What a program that checks files says about them; "" when it has nothing to say."""
    if shutil.which(str(argv[0])) is None:
        demand([f"the program {argv[0]}"])
    done = subprocess.run(
        [*map(str, argv)], capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr or f"exit {done.returncode}" * bool(done.returncode)


def shellcheck(*scripts: Path) -> str:
    return checked("shellcheck", "--norc", "--shell=sh", *scripts)


class Root:
    """A directory that stands for ``/``, filled by its methods."""

    def __init__(self, path: Path):
        self.path = path

    def file(self, name: str, text: str = "", mode: int = 0o644) -> Root:
        place = self.path / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return self

    def link(self, name: str, target: str) -> Root:
        place = self.path / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
        return self

    def program(self, *names: str) -> Root:
        for name in names:
            self.file(name, mode=0o755)
        return self

    def enabled(self, unit: str, target: str = "multi-user.target") -> Root:
        return self.link(
            f"/etc/systemd/system/{target}.wants/{unit}", f"/usr/lib/systemd/system/{unit}"
        )

    def masked(self, unit: str) -> Root:
        return self.link(f"/etc/systemd/system/{unit}", "/dev/null")
