"""Find an image's cloud-init: the program that its boot runs, and its Python interpreter.

A distribution has it in /usr; others have it in /usr/local, in a virtual environment,
or behind a link or a short script that leads there.  All code that queries or runs the
image's cloud-init, or looks for what is installed beside it, starts here.
"""

from __future__ import annotations

import contextlib
import glob
import re
from pathlib import Path
from typing import NamedTuple

from . import payload
from .chroot import attempt_in, run_in
from .errors import BuildError

# The boot runs the last ExecStart, drop-ins included, of the first of these units that has
# one (24.3 and later have the first unit); else the program in PATH.
_PROGRAMS = """
of_unit() {
    for directory in /etc/systemd/system /usr/local/lib/systemd/system \\
            /usr/lib/systemd/system /lib/systemd/system; do
        if [ -f "$directory/$1" ]; then
            cat "$directory/$1"
            break
        fi
    done
    for directory in /usr/lib/systemd/system /usr/local/lib/systemd/system /etc/systemd/system; do
        for file in "$directory/$1.d"/*.conf; do
            [ ! -f "$file" ] || cat "$file"
        done
    done
}
for unit in cloud-init-main.service cloud-init.service cloud-init-local.service; do
    of_unit "$unit" |
        sed -n 's|^ExecStart=[-@:+!]*\\(/[^ ]*/cloud-init\\)\\( .*\\)*$|\\1|p' | tail -n 1
done
command -v cloud-init || :
"""

# The beginning of a program.  pip writes a long interpreter path into the second line, and
# a wrapper script names the program that it runs.
_BEGINNING = 'head -c 2000 -- "$1"'
_LONG = re.compile(r"""^'''exec' "?(/[^"\n]+?)"? "\$0" "\$@"$""", re.MULTILINE)
_WRAPPED = re.compile(r"""^\s*exec "?(/[^"\s]+)"? "\$@"\s*$""", re.MULTILINE)
_MOST_WRAPPERS = 4

_SITES = ("usr/lib*/python3*/*-packages", "usr/local/lib*/python3*/*-packages")


class Home(NamedTuple):
    """Absolute paths within the image."""

    program: str
    python: str


def find(root: Path) -> Home:
    """The image's cloud-init; raises `BuildError` if none can be determined."""
    named = run_in(root, ["sh", "-euc", _PROGRAMS]).split()
    program = next((path for path in dict.fromkeys(named) if _exists(root, path)), None)
    if program is None:
        missing = f"{named[0]} of its units is not there" if named else "no unit or PATH has one"
        raise BuildError(f"{root} has no program cloud-init: {missing}")
    behind = program
    for _hop in range(_MOST_WRAPPERS):
        text = run_in(root, ["sh", "-euc", _BEGINNING, "head", behind])
        python = interpreter(text)
        if python is not None:
            return Home(program, _absolute(root, python))
        wrapped = _WRAPPED.search(text) if text.startswith("#!") else None
        if wrapped is None:
            break
        behind = wrapped[1]
    first = text.splitlines()[0] if text else ""
    raise BuildError(f"{root}{behind} does not start with a Python: {first[:80]!r}")


def interpreter(text: str) -> str | None:
    """The Python interpreter in a script's first lines, as a path or a name."""
    words = text.splitlines()[0][2:].split() if text.startswith("#!") else []
    if words and words[0].endswith("/env"):
        words = _of_env(words[1:])
    if words and "python" in words[0]:
        return words[0]
    long = _LONG.search(text) if words and words[0].endswith("/sh") else None
    return long[1] if long and "python" in long[1] else None


def _of_env(words: list[str]) -> list[str]:
    """The command that env(1) would run, after its options (-S splits the line) and variables."""
    while words and (words[0].startswith("-") or "=" in words[0]):
        split = re.fullmatch(r"(?:-[iv0]*S|--split-string=)(.+)", words[0])
        words = [*split.groups(), *words[1:]] if split else words[1:]
    return words


def _absolute(root: Path, python: str) -> str:
    return python if python.startswith("/") else run_in(root, ["which", python]).strip()


def _exists(root: Path, path: str) -> bool:
    return attempt_in(root, ["test", "-e", path]).returncode == 0


def sites(root: Path) -> list[Path]:
    """The directories of `root` that may hold the package: the usual ones, and `register`'s.

    `register`, when installed, names its Python in its first line.  So the package is found
    even if cloud-init has been removed since.
    """
    root = root.resolve()
    patterns = list(_SITES)
    register = root / payload.REGISTER.lstrip("/")
    python = None
    with contextlib.suppress(OSError, ValueError):
        if not register.is_symlink():
            python = interpreter(register.read_text(encoding="utf-8")[:2000])
    if python is not None and python.startswith("/"):
        # The image's own readlink resolves a link to a versioned directory.
        prefix = str(Path(python).parent.parent)
        real = attempt_in(root, ["readlink", "-f", prefix]).stdout.strip() or prefix
        patterns.append(f"{glob.escape(real.strip('/'))}/lib*/python3*/*-packages")
    found = {path.resolve() for pattern in patterns for path in root.glob(pattern)}
    return sorted(path for path in found if root in path.parents)
