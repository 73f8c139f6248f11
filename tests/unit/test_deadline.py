"""A deadline and the parts of it."""

from nuage_appliance.base.deadline import Deadline


class Clock:
    """Stands still until a test moves it."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_a_part_of_a_deadline_ends_after_its_own_seconds_or_with_the_whole():
    clock = Clock()
    whole = Deadline(10.0, clock)
    assert whole.at_most(4.0).remaining_s() == 4.0
    assert whole.at_most(40.0).remaining_s() == 10.0
    clock.now_s += 7.0
    assert whole.at_most(4.0).remaining_s() == 3.0


def test_a_part_of_a_deadline_counts_on_the_same_clock_and_leaves_the_whole_as_it_was():
    clock = Clock()
    whole = Deadline(10.0, clock)
    part = whole.at_most(4.0)
    clock.now_s += 4.0
    assert part.is_over
    assert whole.remaining_s() == 6.0
    clock.now_s += 60.0
    assert whole.at_most(4.0).is_over
