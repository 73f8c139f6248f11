"""The numbers of veth pairs: none is given out that something of the host carries."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nuage_appliance.core.link_numbers import LinkNumbers
from nuage_appliance.model import VethPair

_numbers = st.integers(0, 12)
_steps = st.lists(
    st.tuples(st.sampled_from(["take", "take_device", "keep", "free", "next"]), _numbers),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(_steps)
def test_no_number_is_given_out_that_is_taken(steps):
    numbers = LinkNumbers()
    taken, devices = set(), set()
    for step, number in steps:
        if step == "next":
            pair = numbers.next_pair()
            assert pair.number not in taken
            taken.add(pair.number)
        elif step == "free":
            numbers.free(VethPair(number))
            taken.discard(number)
            devices.discard(number)
        else:
            getattr(numbers, step)(VethPair(number))
            taken.add(number)
            if step == "take_device":
                devices.add(number)
        assert {n for n in range(13) if numbers.had_device(VethPair(n))} == devices


def test_numbers_go_up_from_the_highest_that_was_seen_and_not_back_to_one_that_was_freed():
    numbers = LinkNumbers()
    numbers.take(VethPair(7))
    assert numbers.next_pair() == VethPair(8)
    numbers.free(VethPair(8))
    assert numbers.next_pair() == VethPair(9)


def test_after_the_highest_number_the_free_ones_come_again():
    numbers = LinkNumbers()
    numbers.take(VethPair(4_000_000))
    numbers.take(VethPair(0))
    assert numbers.next_pair() == VethPair(1)


def test_the_number_of_a_reservation_is_taken_but_not_counted_on_from():
    numbers = LinkNumbers()
    numbers.take(VethPair(5_000_000))
    assert numbers.next_pair() == VethPair(1)
