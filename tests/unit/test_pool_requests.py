"""What `--ipam-opt` means, and the pools between RequestPool and CreateNetwork."""

import dataclasses
import ipaddress
import logging

import pytest

from nuage_appliance.base.faults import Refused, Unavailable
from nuage_appliance.core import pools
from nuage_appliance.model import GLOBAL_SPACE, LOCAL_SPACE, Place, Pool, Subnet

_PLACE = Place("Enterprise", "Domain", "Zone", "Subnet")
_OTHER_PLACE = Place("Enterprise", "Domain", "Zone", "Subnet 2")
_CIDR = ipaddress.ip_network("10.21.59.0/24")
_OTHER_CIDR = ipaddress.ip_network("10.21.60.0/24")
_OPTIONS = {"organization": "E", "domain": "D", "zone": "Z", "subnet": "S", "user": "U"}


def _refusal(work, *arguments, **named):
    with pytest.raises(Refused) as caught:
        work(*arguments, **named)
    return caught.value.message


def _pool(space=LOCAL_SPACE, place=_PLACE, cidr=_CIDR, user=""):
    return Pool(space, place, user, cidr, cidr, cidr[1], "id")


# -- options -------------------------------------------------------------------------------------


def test_options_are_the_place_and_the_user():
    assert pools.read_options(_OPTIONS) == (Place("E", "D", "Z", "S"), "U")


def test_what_is_optional_is_empty_when_it_is_left_out():
    l2 = {"organization": "E", "domain": "D"}
    assert pools.read_options(l2) == (Place("E", "D", "", ""), "")
    assert pools.read_options({**l2, "zone": "", "subnet": "", "user": ""}) == (
        Place("E", "D", "", ""),
        "",
    )


@pytest.mark.parametrize("key", ["organization", "domain", "zone", "subnet", "user"])
def test_an_option_that_is_no_name_is_refused_with_its_value(key):
    assert _refusal(pools.read_options, {**_OPTIONS, key: " blank"}) == (
        f"--ipam-opt {key}=' blank' is not a name: "
        "it must have 1 to 255 printable characters and no blank at an end"
    )


@pytest.mark.parametrize("missing", ["organization", "domain", "zone", "subnet"])
@pytest.mark.parametrize("is_empty", [True, False])
def test_an_option_that_is_missing_is_named(missing, is_empty):
    options = {**_OPTIONS, missing: ""}
    if not is_empty:
        del options[missing]
    hint = (
        "give organization, domain, zone and subnet as they are called on the VSD"
        if missing in ("organization", "domain")
        else "an L3 domain needs both zone and subnet (give neither to use an L2 domain)"
    )
    assert _refusal(pools.read_options, options) == f"--ipam-opt {missing}=… is missing; {hint}"


def test_an_unknown_option_is_ignored_with_a_warning_that_offers_the_nearest_one(caplog):
    with caplog.at_level(logging.WARNING):
        assert pools.read_options({**_OPTIONS, "zoen": "Z2", "xyz": " "})[0].zone == "Z"
    assert [record.getMessage() for record in caplog.records] == [
        "--ipam-opt 'zoen' is not known and is ignored; did you mean zone?",
        "--ipam-opt 'xyz' is not known and is ignored",
    ]


def test_the_engines_own_options_pass_without_a_word(caplog):
    with caplog.at_level(logging.WARNING):
        pools.read_options({**_OPTIONS, "com.docker.network.ipam.serial": "true"})
    assert not caplog.records


def test_a_cidr_is_read_and_its_host_bits_are_dropped():
    assert pools.read_cidr("10.21.59.7/24", "--subnet") == _CIDR


@pytest.mark.parametrize(
    "text, words",
    [
        ("10.21.59.0/33", "'10.21.59.0/33' is not a CIDR such as 10.21.59.0/24"),
        ("", "'' is not a CIDR such as 10.21.59.0/24"),
        (
            "fd00::/64",
            "'fd00::/64' is IPv6; networks of this driver are IPv4 only, so leave it out",
        ),
    ],
)
def test_a_cidr_that_is_none_is_refused_with_option_and_value(text, words):
    assert _refusal(pools.read_cidr, text, "--ip-range") == f"--ip-range {words}"


# -- RequestPool ---------------------------------------------------------------------------------

_SUBNET = Subnet("vsd-1", _PLACE, _CIDR, _CIDR[1], "domain-1")
_PLACE_OPTIONS = {
    "organization": "Enterprise",
    "domain": "Domain",
    "zone": "Zone",
    "subnet": "Subnet",
    "user": "somebody",
}
_HALF, _PART = ipaddress.ip_network("10.21.59.0/25"), ipaddress.ip_network("10.21.59.0/26")


def _read(space=LOCAL_SPACE, pool="", sub_pool="", is_v6=False):
    return pools.PoolRequest.read(space, pool, sub_pool, _PLACE_OPTIONS, is_v6)


@pytest.mark.parametrize("space", [LOCAL_SPACE, GLOBAL_SPACE, "local", "global", ""])
def test_a_request_for_a_pool_is_what_it_says(space):
    assert _read(space, str(_HALF), str(_PART)) == pools.PoolRequest(
        space or LOCAL_SPACE, _PLACE, "somebody", _HALF, _PART
    )
    assert _read(space) == pools.PoolRequest(space or LOCAL_SPACE, _PLACE, "somebody", None, None)


def test_a_request_that_no_pool_can_meet_is_refused():
    assert _refusal(_read, is_v6=True) == pools.NO_IPV6
    assert _refusal(_read, "LocalDefault") == (
        "the address space 'LocalDefault' is not one of nuage-ipam's (nuage-local, nuage-global)"
    )
    assert _refusal(_read, pool="x") == "--subnet 'x' is not a CIDR such as 10.21.59.0/24"
    assert _refusal(_read, sub_pool="x") == "--ip-range 'x' is not a CIDR such as 10.21.59.0/24"


def test_the_pool_of_a_request_says_all_of_it():
    assert _read(GLOBAL_SPACE, str(_HALF), str(_PART)).pool_in(_SUBNET) == Pool(
        GLOBAL_SPACE, _PLACE, "somebody", _HALF, _CIDR, _CIDR[1], "vsd-1", _PART
    )


# -- CreateNetwork -------------------------------------------------------------------------------


def _ipam_data(**changes):
    return {"AddressSpace": LOCAL_SPACE, "Pool": "10.21.59.0/24", **changes}


def test_a_new_network_has_one_ipv4_subnet_of_our_own_ipam_driver():
    assert pools.read_ipam_data([_ipam_data()], []) == (_CIDR, LOCAL_SPACE)
    assert pools.read_ipam_data([_ipam_data(AddressSpace=None)], []) == (_CIDR, "")
    assert _refusal(pools.read_ipam_data, [_ipam_data()], [{}]) == pools.NO_IPV6
    for count in (0, 2):
        assert _refusal(pools.read_ipam_data, [_ipam_data()] * count, []) == (
            f"the network has {count} IPv4 subnets; "
            "a network of this driver has exactly one, so give one --subnet or none"
        )
    for space in ("LocalDefault", "GlobalDefault", "default", "null"):
        assert _refusal(pools.read_ipam_data, [_ipam_data(AddressSpace=space)], []) == (
            "the network driver nuage works only with its own IPAM driver; "
            "add --ipam-driver=nuage-ipam and the --ipam-opt options"
        )
    for empty in (None, ""):
        assert _refusal(pools.read_ipam_data, [_ipam_data(Pool=empty)], []) == (
            "Pool '' is not a CIDR such as 10.21.59.0/24"
        )


def test_the_pool_of_a_network_that_exists_needs_nothing_but_its_subnet():
    assert pools.pool_in(_SUBNET) == Pool(
        LOCAL_SPACE, _PLACE, "", _CIDR, _CIDR, _CIDR[1], "vsd-1", None
    )


def test_the_pool_of_a_network_that_exists_says_all_of_it():
    found = pools.pool_in(_SUBNET, user="u", cidr=_HALF, address_range=_PART, space=GLOBAL_SPACE)
    assert found == Pool(GLOBAL_SPACE, _PLACE, "u", _HALF, _CIDR, _CIDR[1], "vsd-1", _PART)


def test_a_network_whose_subnet_is_another_one_now_must_be_made_anew():
    assert _refusal(pools.pool_in, _SUBNET, cidr=_OTHER_CIDR) == (
        f"the network's subnet 10.21.60.0/24 is no longer the VSD's: {_PLACE} is 10.21.59.0/24; "
        "create the network anew"
    )


# -- pools that no network has claimed -----------------------------------------------------------


class _Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture()
def clock():
    """The time, which stands still unless a test moves it."""
    return _Clock()


@pytest.fixture()
def pending(clock):
    """No pool yet."""
    return pools.PendingPools(clock)


def _share(one, other):
    return one.cidr.overlaps(other.cidr)


def test_a_pool_is_pending_for_a_minute(pending, clock):
    pending.add(_pool(), False)
    clock.now_s += 59.9
    assert _pool() in pending
    clock.now_s += 0.1
    assert _pool() not in pending


def test_another_pool_is_not_pending(pending):
    pending.add(_pool(), False)
    assert _pool(user="somebody") not in pending


def test_the_pool_id_is_the_same_from_a_request_and_from_the_engines_description():
    """On another host of the cluster the network is known from its description."""
    requested = _read(LOCAL_SPACE, str(_CIDR), str(_CIDR)).pool_in(_SUBNET)
    described = pools.pool_in(
        _SUBNET, user=requested.user, cidr=_CIDR, address_range=_CIDR, space=LOCAL_SPACE
    )
    assert described.pool_id == requested.pool_id


def test_a_thousand_pools_at_once_are_the_most(pending, clock):
    for _ in range(1000):
        pending.add(_pool(), False)
    with pytest.raises(Unavailable, match=r"^1000 networks are being created at once"):
        pending.add(_pool(), False)
    clock.now_s += 60
    pending.add(_pool(), False)


def test_addresses_that_are_not_shared_are_not_refused(pending, clock):
    pending.add(_pool(), True)
    pending.refuse_overlap(_pool(cidr=_OTHER_CIDR), True, clock(), _share)


def test_what_shares_addresses_is_asked_of_the_pending_pool_and_the_new_one(pending, clock):
    first, second = _pool(), _pool(cidr=_OTHER_CIDR)
    asked = []
    pending.add(first, False)
    pending.refuse_overlap(second, False, clock(), lambda *both: asked.append(both))
    assert asked == [(first, second)]


@pytest.mark.parametrize(
    "was_automatic, is_automatic, young_s", [(True, True, 3), (False, True, 10), (False, False, 10)]
)
def test_a_twin_is_refused_only_while_the_first_network_is_likely_being_created(
    pending, clock, was_automatic, is_automatic, young_s
):
    pending.add(_pool(), was_automatic)
    clock.now_s += young_s
    with pytest.raises(Refused):
        pending.refuse_overlap(_pool(), is_automatic, clock(), _share)
    clock.now_s += 0.1
    pending.refuse_overlap(_pool(), is_automatic, clock(), _share)


def test_what_a_slow_vsd_takes_makes_an_answer_no_older(pending, clock):
    """The engine asks again at once; the VSD is asked for four seconds before the comparison."""
    pending.add(_pool(), True)
    clock.now_s += 0.01
    asked_at = clock()
    clock.now_s += 4.0
    with pytest.raises(Refused, match=r"was given to the engine a moment ago"):
        pending.refuse_overlap(_pool(), True, asked_at, _share)


def test_a_given_subnet_waits_ten_seconds_for_an_automatic_one_too(pending, clock):
    pending.add(_pool(), True)
    clock.now_s += 3.1
    with pytest.raises(Refused, match=r"another network is just being created on 10.21.59.0/24"):
        pending.refuse_overlap(_pool(), False, clock(), _share)


def test_an_automatic_pool_is_refused_across_spaces_and_the_sentence_says_what_to_give(
    pending, clock
):
    pending.add(_pool(GLOBAL_SPACE), False)
    assert _refusal(pending.refuse_overlap, _pool(LOCAL_SPACE), True, clock(), _share) == (
        f"10.21.59.0/24 of the VSD's {_PLACE} was given to the engine a moment ago: "
        "either it refused it, because it overlaps with a route or a network of this host, "
        "or another network is being created on it; "
        "give --subnet=10.21.59.0/24 if you want it nevertheless"
    )


def test_a_given_subnet_may_be_in_both_spaces_at_once(pending, clock):
    pending.add(_pool(GLOBAL_SPACE), False)
    pending.refuse_overlap(_pool(LOCAL_SPACE), False, clock(), _share)


def test_each_pending_pool_is_compared_not_only_the_first(pending, clock):
    pending.add(_pool(cidr=_OTHER_CIDR), False)
    pending.add(_pool(GLOBAL_SPACE), False)
    pending.add(_pool(), False)
    with pytest.raises(Refused):
        pending.refuse_overlap(_pool(), False, clock(), _share)


def test_a_network_claims_its_pool_once(pending):
    pending.add(_pool(cidr=_OTHER_CIDR), False)
    pending.add(_pool(), False)
    assert pending.claim(_CIDR, LOCAL_SPACE) == _pool()
    assert pending.claim(_CIDR, LOCAL_SPACE) is None
    assert _pool(cidr=_OTHER_CIDR) in pending


def test_a_claim_takes_all_requests_for_the_same_pool(pending):
    pending.add(_pool(), False)
    pending.add(_pool(), False)
    assert pending.claim(_CIDR, LOCAL_SPACE) == _pool()
    assert _pool() not in pending


def test_a_claim_that_could_mean_two_pools_takes_neither(pending):
    pending.add(_pool(), False)
    pending.add(_pool(place=_OTHER_PLACE), False)
    assert pending.claim(_CIDR, LOCAL_SPACE) is None
    assert _pool() in pending and _pool(place=_OTHER_PLACE) in pending


@pytest.mark.parametrize("space", [LOCAL_SPACE, GLOBAL_SPACE])
def test_a_claim_stays_in_its_space(pending, space):
    pending.add(_pool(LOCAL_SPACE), False)
    pending.add(_pool(GLOBAL_SPACE), False)
    assert pending.claim(_CIDR, space) == _pool(space)


@pytest.mark.parametrize("space", [LOCAL_SPACE, GLOBAL_SPACE])
def test_a_claim_from_a_space_that_nobody_named_finds_the_pool_in_any(pending, space):
    pending.add(_pool(space), False)
    assert pending.claim(_CIDR, "") == _pool(space)


def test_a_pool_that_is_too_old_is_not_claimed(pending, clock):
    pending.add(_pool(), False)
    clock.now_s += 60
    assert pending.claim(_CIDR, LOCAL_SPACE) is None


def test_the_oldest_pool_of_a_place_is_claimed_first(pending):
    first, second = _pool(user="first"), _pool(user="second")
    for pool in (_pool(place=_OTHER_PLACE), _pool(cidr=_OTHER_CIDR), first, second):
        pending.add(pool, False)
    assert pending.claim_on(_PLACE, _CIDR) == first
    assert pending.claim_on(_PLACE, _CIDR) == second
    assert pending.claim_on(_PLACE, _CIDR) is None
    assert pending.claim_on(_PLACE, None) is None
    assert _pool(place=_OTHER_PLACE) in pending and _pool(cidr=_OTHER_CIDR) in pending


def test_a_global_claim_takes_all_of_these_cidrs_and_returns_the_latest(pending):
    first, second = _pool(GLOBAL_SPACE), _pool(GLOBAL_SPACE, user="second")
    third = _pool(GLOBAL_SPACE, user="third")
    other = _pool(GLOBAL_SPACE, cidr=_OTHER_CIDR)
    for pool in (first, second, third, _pool(LOCAL_SPACE), other):
        pending.add(pool, False)
    assert pending.claim_global({str(_CIDR)}) == third
    assert pending.claim_global({str(_CIDR)}) is None
    assert _pool(LOCAL_SPACE) in pending and other in pending
    assert first not in pending and second not in pending


def test_a_released_pool_is_forgotten_and_no_other(pending):
    pending.add(_pool(), False)
    pending.add(_pool(user="other"), False)
    pending.forget(_pool().pool_id)
    assert _pool() not in pending and _pool(user="other") in pending


def test_a_pool_is_found_by_all_that_it_says(pending):
    pending.add(_pool(), False)
    for field, value in (("space", GLOBAL_SPACE), ("subnet_id", "x"), ("address_range", _CIDR)):
        assert dataclasses.replace(_pool(), **{field: value}) not in pending
