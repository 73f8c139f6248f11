"""An appliance dies at any step of a network's creation or removal; removed records go
in the end.
"""

import itertools

import pytest

from tests.support.cluster import Site, wait
from tests.support.shifted_clock import launcher

_NUMBERS = itertools.count(1)
_ORIGIN, _OTHER = 0, 1
_DEATHS_OF_CREATION = [
    (_ORIGIN, "before:consul.PUT.networks.1"),
    (_ORIGIN, "after:consul.PUT.networks.1"),
    (_OTHER, "before:engine.POST.networks.create.1"),
    (_OTHER, "after:answer.RequestPool.1"),
    (_OTHER, "after:answer.CreateNetwork.1"),
    (_OTHER, "after:engine.POST.networks.create.1"),
]
_DEATHS_OF_REMOVAL = [
    (_ORIGIN, "before:consul.PUT.networks.1"),
    (_ORIGIN, "after:consul.PUT.networks.1"),
    (_OTHER, "before:engine.DELETE.networks.1"),
    (_OTHER, "after:answer.ReleasePool.1"),
    (_OTHER, "after:engine.DELETE.networks.1"),
]


class Mortals(Site):
    """Hosts whose appliances can be told at which of their effects on others they die."""

    def __init__(self, simulator, directory):
        self.orders = [directory / f"order-{index}" for index in range(2)]
        self._environments = iter(
            [
                {"NUAGE_DIE": str(order), "NUAGE_EFFECTS": str(directory / "effects")}
                for order in self.orders
            ]
        )
        super().__init__(simulator, module="tests.faults.dying")

    def host_settings(self):
        return {"environment": next(self._environments)}

    def die(self, index, place):
        """Have a host's appliance die at its next effect of this kind."""
        self.orders[index].write_text(f"{place} {next(_NUMBERS)}")

    def revive(self, index):
        """Wait for its death, and start it again as systemd does."""
        host = self.hosts[index]
        wait(lambda: host.appliance.process.poll() is not None, "its death", host)
        self.orders[index].write_text("")
        host.restart()


@pytest.fixture(scope="module")
def shared_mortals(simulator, tmp_path_factory):
    """Two hosts whose appliances die when they are told to."""
    made = Mortals(simulator, tmp_path_factory.mktemp("orders"))
    yield made
    made.close()


@pytest.fixture
def mortals(shared_mortals):
    """The same, clean in the end."""
    yield shared_mortals
    for order in shared_mortals.orders:
        order.write_text("")
    shared_mortals.restore()


@pytest.mark.parametrize("index, place", _DEATHS_OF_CREATION)
def test_a_creation_comes_to_its_end_wherever_an_appliance_dies(mortals, index, place):
    mortals.die(index, place)
    mortals.create(mortals.hosts[_ORIGIN], "n")
    mortals.revive(index)
    mortals.wait_everywhere("n")
    mortals.wait_settled("n")
    mortals.remove(mortals.hosts[_OTHER], "n")
    mortals.wait_nowhere("n")


@pytest.mark.parametrize("index, place", _DEATHS_OF_REMOVAL)
def test_a_removal_comes_to_its_end_wherever_an_appliance_dies(mortals, index, place):
    mortals.create(mortals.hosts[_ORIGIN], "n")
    mortals.wait_everywhere("n")
    mortals.wait_settled("n")
    mortals.die(index, place)
    mortals.remove(mortals.hosts[_ORIGIN], "n")
    mortals.revive(index)
    mortals.wait_nowhere("n")
    wait(lambda: mortals.record("n")["state"] == "removed", "the record", *mortals.hosts)


def test_removed_records_go_when_no_host_has_a_trace_of_the_network(simulator):
    site = Site(simulator, **launcher(cluster={"PURGE_S": 1.0, "HOLD_S": 1.0}))
    try:
        first, second = site.hosts
        for name in ("short", "long"):
            site.create(first, name)
        for name in ("short", "long"):
            site.wait_everywhere(name)
            site.wait_settled(name)
        site.cut(second)
        wait(lambda: site.component(second)["problem"], "that it notices", second)
        site.remove(first, "long")
        wait(lambda: site.record("long")["state"] == "removed", "the removal", first)
        site.create(first, "later")
        site.remove(first, "later")
        wait(
            lambda: site.record("later") is None,
            "the end of a record that the other one never saw",
            first,
        )
        assert site.record("long")["state"] == "removed", "a host that is away still has it"
        site.heal()
        site.wait_nowhere("long")
        wait(
            lambda: (
                set(site.consul.keys(f"{site.root}networks/")) == {f"{site.root}networks/short"}
            ),
            "the end of the record",
            *site.hosts,
        )
        assert all(site.networks("short"))
        wait(
            lambda: all(site.component(host)["held_removals"] == 0 for host in site.hosts),
            "nothing held",
            *site.hosts,
        )
    finally:
        site.close()
