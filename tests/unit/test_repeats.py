"""A journal that can be read, whatever happens how often."""

from __future__ import annotations

from cc_source_routing.follow.repeats import (
    FORGOTTEN_SECONDS,
    MAX_KINDS,
    SAID_EACH_TIME,
    Repeats,
)


def test_ten_thousand_times_the_same_are_a_few_lines():
    repeats = Repeats()
    said = [repeats.worth_saying("gone", float(time)) for time in range(10_000)]
    assert said[:SAID_EACH_TIME] == [""] * SAID_EACH_TIME
    later = [line for line in said[SAID_EACH_TIME:] if line is not None]
    assert later[0] == f" (for the {2 * SAID_EACH_TIME}th time in a row)"
    assert len(later) < 10


def test_after_a_while_it_is_news_again():
    repeats = Repeats()
    for _time in range(SAID_EACH_TIME + 5):
        repeats.worth_saying("gone", 0.0)
    assert repeats.worth_saying("gone", 1.0) is None
    assert repeats.worth_saying("gone", 1.0 + FORGOTTEN_SECONDS) == ""


def test_other_lines_are_counted_by_themselves_and_not_without_end():
    repeats = Repeats()
    for number in range(1000):
        assert repeats.worth_saying(f"line {number}", 0.0) == ""
    assert len(repeats._seen) == MAX_KINDS
