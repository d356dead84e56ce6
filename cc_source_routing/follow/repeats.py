"""How often the same thing is worth a line in the journal.  Pure."""

from __future__ import annotations

# As often as somebody may try something by hand; then only each time that it has doubled.
SAID_EACH_TIME = 32
# After so long without it, it is news again.
FORGOTTEN_SECONDS = 60.0
MAX_KINDS = 64


class Repeats:
    """Counts lines of a kind.  Moments are of a monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}

    def worth_saying(self, kind: str, now: float) -> str | None:
        """What to add to the line, "" for nothing; None where the line is not worth saying."""
        last, times = self._seen.pop(kind, (now, 0))
        times = 1 if now - last >= FORGOTTEN_SECONDS else times + 1
        self._seen[kind] = (now, times)
        if len(self._seen) > MAX_KINDS:
            del self._seen[next(iter(self._seen))]
        if times <= SAID_EACH_TIME:
            return ""
        return f" (for the {times}th time in a row)" if times & (times - 1) == 0 else None
