"""Little roots with what a network manager leaves in them, for renderers to look at."""

from __future__ import annotations

from pathlib import Path


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
