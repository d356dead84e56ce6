"""When a follower acts: moments in, moments out, no clock."""

from __future__ import annotations

import pytest

from cc_source_routing.follow.pace import (
    CPU_ALLOWANCE_SECONDS,
    CPU_SHARE,
    LASTING_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PATIENCE_SECONDS,
    QUIET_SECONDS,
    RESTORES_WITHOUT_PAUSE,
    Pace,
)

CHEAP = 0.01


@pytest.fixture
def pace() -> Pace:
    return Pace(0.0)


def test_without_events_there_is_nothing_to_do(pace: Pace):
    assert pace.next_at is None


def test_it_looks_once_a_burst_is_over(pace: Pace):
    for moment in (1.0, 1.02, 1.04):
        pace.hear(moment)
    assert pace.next_at == pytest.approx(1.04 + QUIET_SECONDS)
    pace.looked(1.1, CHEAP)
    assert pace.next_at is None


def test_it_does_not_wait_for_ever_under_a_steady_stream(pace: Pace):
    for tenth in range(100):
        pace.hear(1.0 + tenth / 50)
    assert pace.next_at == pytest.approx(1.0 + PATIENCE_SECONDS)


def test_what_is_ours_and_missing_is_restored_without_a_look(pace: Pace):
    pace.hear(1.0, missing=True)
    assert pace.restore_at == pytest.approx(1.0 + QUIET_SECONDS)
    assert pace.look_at is None
    pace.restored(1.1, CHEAP, changed=True)
    assert pace.next_at is None


def looks_in(seconds: float, cost: float) -> "tuple[int, float]":
    """How many looks there are under events each second, and what share of a CPU they take."""
    pace, now, looks = Pace(0.0), 0.0, 0
    while now < seconds:
        pace.hear(now)
        due = pace.look_at
        assert due is not None
        if due <= now + 1:
            pace.looked(max(due, now), cost)
            looks += 1
        now += 1
    return looks, looks * cost / seconds


def test_cheap_looks_follow_each_event():
    assert looks_in(600, 0.04)[0] == 600


@pytest.mark.parametrize("cost", [0.1, 0.5, 2.0])
def test_dear_looks_take_their_share_of_a_cpu_and_no_more(cost: float):
    seconds = 3600.0
    looks, share = looks_in(seconds, cost)
    assert looks > 10
    assert share <= CPU_SHARE + (CPU_ALLOWANCE_SECONDS + cost) / seconds


def after_an_hour_of_listening(pace: Pace, share: float) -> float:
    """How long an event waits for its look when listening has taken so much of a CPU."""
    for second in range(3600):
        pace.spent(second, share)
    pace.hear(3600.0)
    return pace.look_at - 3600.0


def test_listening_within_the_budget_delays_no_look(pace: Pace):
    assert after_an_hour_of_listening(pace, CPU_SHARE / 2) == pytest.approx(QUIET_SECONDS)


def test_listening_beyond_the_budget_leaves_none_for_looks(pace: Pace):
    assert after_an_hour_of_listening(pace, CPU_SHARE * 2) > 60


def test_restoring_does_not_wait_for_the_budget(pace: Pace):
    pace.looked(0.0, 100.0)
    pace.hear(1.0)
    pace.hear(1.0, missing=True)
    assert pace.look_at > 1000
    assert pace.next_at == pytest.approx(1.0 + QUIET_SECONDS)


AT_ONCE = LASTING_SECONDS / 2


def undone(pace: Pace, now: float, after: float = AT_ONCE, cost: float = CHEAP) -> float:
    """Somebody takes away `after` seconds what is ours; when it is restored."""
    pace.hear(now + after, missing=True)
    due = pace.restore_at
    assert due is not None
    pace.restored(due, cost, changed=True)
    return due


def test_who_undoes_each_restore_is_answered_at_longer_and_longer_pauses(pace: Pace):
    now, pauses = 0.0, []
    for _time in range(RESTORES_WITHOUT_PAUSE + 10):
        then = undone(pace, now)
        pauses.append(round(then - now, 3))
        now = then
    assert max(pauses[:RESTORES_WITHOUT_PAUSE]) < AT_ONCE + 2 * QUIET_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_who_undoes_it_each_second_is_answered_at_once(pace: Pace):
    now = 0.0
    for _time in range(100):
        then = undone(pace, now, after=1.0)
        assert then == pytest.approx(now + 1.0 + QUIET_SECONDS)
        now = then


@pytest.mark.parametrize("cost", [0.1, 0.5, 2.0])
def test_dear_restores_take_their_share_of_a_cpu_and_no_more(pace: Pace, cost: float):
    """On a server with many NICs, or between the routes of a whole Internet."""
    now, restores = 0.0, 0
    while now < 3600:
        now = undone(pace, now, after=LASTING_SECONDS, cost=cost)
        restores += 1
    assert restores > 10
    assert restores * cost / now <= CPU_SHARE + (CPU_ALLOWANCE_SECONDS + cost) / now


def test_what_has_stayed_is_restored_at_once_when_it_goes_much_later(pace: Pace):
    now = 0.0
    for _time in range(RESTORES_WITHOUT_PAUSE + 4):
        now = undone(pace, now)
    pace.hear(now + LASTING_SECONDS, missing=True)
    pace.restored(pace.restore_at, CHEAP, changed=True)
    later = now + LASTING_SECONDS + LONGEST_PAUSE_SECONDS
    pace.hear(later, missing=True)
    assert pace.restore_at == pytest.approx(later + QUIET_SECONDS)


def test_a_failed_look_is_tried_again_and_seldom_when_it_fails_for_long(pace: Pace):
    pace.hear(0.0)
    now, pauses = pace.next_at, []
    for _time in range(10):
        pace.failed(now, CHEAP)
        pauses.append(round(pace.next_at - now, 6))
        now = pace.next_at
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    pace.looked(now, CHEAP)
    assert pace.next_at is None and pace.failures == 0


def test_attempts_that_fail_after_much_work_keep_to_the_budget(pace: Pace):
    """Also where they end well in between, which ends the pauses that double."""
    now, spent = 0.0, 0.0
    while now < 3600:
        pace.hear(now)
        pace.failed(pace.next_at, 1.0)
        now = pace.next_at
        pace.looked(now, 1.0)
        spent += 2.0
    assert spent / now <= CPU_SHARE + (CPU_ALLOWANCE_SECONDS + 2.0) / now


def test_where_only_the_files_failed_events_do_not_wait_and_it_is_tried_again(pace: Pace):
    pace.failed(1.0, CHEAP, in_vain=False)
    for moment in (1.1, 1.3, 1.5, 1.7):
        pace.hear(moment)
        assert pace.next_at == pytest.approx(moment + QUIET_SECONDS)
        pace.failed(moment + QUIET_SECONDS, CHEAP, in_vain=False)
    assert (pace.next_at, pace.failures) == (2.0, 1)
    pace.failed(2.0, CHEAP, in_vain=False)
    assert (pace.next_at, pace.failures) == (4.0, 2)


def test_events_do_not_shorten_the_pause_after_a_failure(pace: Pace):
    pace.hear(0.0)
    pace.failed(1.0, CHEAP)
    pace.failed(2.0, CHEAP)
    pace.hear(2.1)
    assert pace.next_at == pytest.approx(4.0)


def test_a_look_that_was_asked_for_comes_without_an_event(pace: Pace):
    pace.ask_for_look(5.0)
    pace.ask_for_look(3.0)
    pace.ask_for_look(4.0)
    assert pace.next_at == 3.0
    pace.looked(3.0, CHEAP)
    assert pace.next_at is None


def test_one_that_an_event_brings_about_earlier_does_not_stand_for_it(pace: Pace):
    """Who has asked for it may change something until then."""
    pace.ask_for_look(3.0)
    pace.hear(1.0)
    assert pace.next_at == pytest.approx(1.0 + QUIET_SECONDS)
    pace.looked(1.1, CHEAP)
    assert pace.next_at == 3.0
