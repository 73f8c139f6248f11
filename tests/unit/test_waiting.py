"""Time budgets and waiting times, on a clock and a dice of the test."""

import random
import time

import pytest

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Unavailable


class _Clock:
    def __init__(self):
        self.now_s = 50.0

    def __call__(self):
        return self.now_s


def test_a_deadline_counts_down_and_stops_at_zero():
    clock = _Clock()
    deadline = Deadline(9, clock)
    left = []
    for step_s in (0, 4, 5, 1):
        clock.now_s += step_s
        left.append((deadline.remaining_s(), deadline.is_over))
    assert left == [(9, False), (5, False), (0, True), (0, True)]


def test_a_bound_is_the_smaller_of_the_two():
    clock = _Clock()
    deadline = Deadline(9, clock)
    assert (deadline.bound(8), deadline.bound(10)) == (8, 9)
    clock.now_s += 20
    assert deadline.bound(8) == 0


def test_a_check_raises_only_when_the_time_is_over_and_names_what_was_waited_for():
    clock = _Clock()
    deadline = Deadline(9, clock)
    deadline.check("the VSD")
    clock.now_s += 9
    with pytest.raises(Unavailable, match=r"^the VSD did not answer in time$"):
        deadline.check("the VSD")


def test_a_deadline_runs_by_itself_on_the_monotonic_clock():
    before_s = time.monotonic()
    deadline = Deadline(100)
    left_s = deadline.remaining_s()
    assert 100 - (time.monotonic() - before_s) <= left_s <= 100


def _waits(backoff, count):
    return [backoff.next_s() for _ in range(count)]


def test_waiting_times_grow_up_to_the_cap():
    backoff = Backoff(first_s=0.5, factor=3, cap_s=10, jitter=0)
    assert _waits(backoff, 5) == [0.5, 1.5, 4.5, 10, 10]


def test_the_waiting_times_that_nobody_chose():
    backoff = Backoff(jitter=0)
    assert _waits(backoff, 9) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_a_reset_starts_from_the_first_waiting_time():
    backoff = Backoff(first_s=1, jitter=0)
    _waits(backoff, 4)
    backoff.reset()
    assert _waits(backoff, 2) == [1, 2]


class _Dice(random.Random):
    """Says what the test wants, over and over."""

    def __init__(self, *said):
        super().__init__()
        self.said = said

    def random(self):
        self.said = (*self.said[1:], self.said[0])
        return self.said[-1]


def test_the_jitter_goes_as_far_down_as_up():
    backoff = Backoff(first_s=10, factor=1, jitter=0.2, rng=_Dice(0.0, 0.5, 1.0))
    assert _waits(backoff, 3) == [8, 10, 12]


def test_the_jitter_that_nobody_chose_is_a_fifth():
    assert _waits(Backoff(first_s=10, factor=1, rng=_Dice(0.0, 1.0)), 2) == [8, 12]


def test_jitter_comes_from_chance_when_no_dice_is_given():
    assert len(set(_waits(Backoff(first_s=10, factor=1), 5))) > 1


def test_after_a_very_long_time_of_failures_the_waiting_time_is_still_the_cap():
    backoff = Backoff(jitter=0)
    assert _waits(backoff, 5000)[-1] == 10
