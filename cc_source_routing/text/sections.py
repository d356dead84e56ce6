"""Files of ``[Section]`` and ``Key=Value`` lines: systemd.syntax(7), GLib's key files.  Pure."""

from __future__ import annotations

from collections.abc import Iterator


def assignments(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of each assignment, stripped; repeated ones come again.

    A line that ends with a backslash goes on in the next.  Lines before the first section are of
    section "".  What is neither an assignment nor a header is passed over, as is a comment.
    """
    section = ""
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()
