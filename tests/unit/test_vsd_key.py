"""When the VSD's API key is renewed: before its end, and not by all hosts at once."""

import email.utils
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuage_appliance.clients.vsd_key import seconds_to_renewal

_NOW_S = 1_700_000_000
_DATE = email.utils.formatdate(_NOW_S, usegmt=True)


def renewal(left_s, is_new=True, seed=0, date=_DATE, unit=1000):
    """Seconds to the renewal of a key that has `left_s` seconds left."""
    expiry = (_NOW_S + left_s) * unit
    return seconds_to_renewal(expiry, date, is_new, _NOW_S, random.Random(seed))


@given(st.integers(0, 10_000_000), st.integers(0, 1000))
def test_a_key_is_renewed_in_the_last_50_seconds_and_the_last_tenth_of_its_life(left_s, seed):
    lead_s = left_s - renewal(left_s, seed=seed)
    assert 1.0 <= lead_s <= 50.0
    assert lead_s <= 1.0 + left_s / 10


def test_hosts_that_started_together_do_not_renew_together():
    assert len({round(renewal(86_400, seed=seed)) for seed in range(50)}) > 20


def test_a_key_that_the_vsd_gave_again_is_renewed_just_after_its_end():
    assert renewal(30, is_new=False) == 31
    assert renewal(50, is_new=False) == 51
    assert renewal(3600, is_new=False) < 3600


def test_the_end_may_be_in_seconds_or_in_milliseconds():
    assert renewal(3600, unit=1) == renewal(3600, unit=1000)


def test_the_clock_of_the_vsd_counts_not_ours():
    expiry = (_NOW_S + 3600) * 1000
    wrong_s = _NOW_S - 7200
    by_header = seconds_to_renewal(expiry, _DATE, True, wrong_s, random.Random(0))
    assert by_header == renewal(3600)


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Foo"])
def test_without_a_usable_date_our_own_clock_counts(date):
    assert renewal(3600, date=date) == renewal(3600)


@pytest.mark.parametrize("expiry", [None, True, 0, -1, "1700000000", [], {}])
def test_a_key_without_a_usable_end_is_not_renewed(expiry):
    assert seconds_to_renewal(expiry, _DATE, True, _NOW_S, random.Random(0)) is None
