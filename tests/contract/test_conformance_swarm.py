"""Conformance tests 14 and 15 of libnetwork §10: a second host, and swarm managers
and workers.
"""

import pytest

from tests.support.plugin_calls import SWARM_SERIAL, pool_body
from tests.support.scripted_engine import GATEWAY, OPTIONS, ScriptedEngine

# -- 14 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["knows it", "is away", "hangs"])
def test_a_second_host_serves_a_foreign_pool_and_a_network_that_was_never_announced(hosts, api):
    first, second = hosts(scope="global"), hosts(scope="global")
    network_id = first.engine.network_create("n")
    pool_id, gateway = first.engine.pools[network_id]
    if api == "knows it":
        second.api.networks[network_id] = {
            **first.api.networks[network_id],
            "Scope": "global",
            "Containers": {},
        }
    elif api == "is away":
        second.api.stop()
    second.api.hang = api == "hangs"
    other = ScriptedEngine(second.appliance.plugins, second.api if api == "knows it" else None)
    other.pools[network_id] = (pool_id, gateway)
    endpoint = other.run("c", network_id)
    assert endpoint["address"].startswith("10.21.59.") and second.has_link(endpoint["entity_port"])
    here = first.engine.run("d", network_id)
    assert here["address"] != endpoint["address"]
    if api == "knows it":
        second.wait_attached(endpoint)
        other.stop(endpoint)
    else:
        other.teardown(endpoint)
    second.api.hang = False
    assert second.containers() == []
    first.engine.stop(here)
    first.engine.network_rm(network_id)
    first.wait_clean()


# -- 15 -------------------------------------------------------------------------------------------


_SWARM_NID = "8qyhkfaqn3rgwt6w5imdyuzs0"


class Manager:
    """The manager's column of libnetwork §5.4."""

    def __init__(self, host):
        self.plugin, self.ipam = host.engine.network, host.engine.ipam

    def create(self):
        options = {**OPTIONS, **SWARM_SERIAL}
        pool = self.ipam.call(
            "IpamDriver.RequestPool", {**pool_body(space="nuage-global"), "Options": options}
        )
        self.pool_id = pool["PoolID"]
        gateway = self.ipam.call(
            "IpamDriver.RequestAddress",
            {"PoolID": self.pool_id, "Address": "", "Options": {**GATEWAY, **options}},
        )["Address"]
        self.data = [{"AddressSpace": "", "Pool": pool["Pool"], "Gateway": gateway}]
        return self.allocate({"d": "e"})

    def allocate(self, options):
        body = {
            "NetworkID": _SWARM_NID,
            "Options": options,
            "IPv4Data": self.data,
            "IPv6Data": None,
        }
        return self.plugin.call("NetworkDriver.AllocateNetwork", body)["Options"]

    def task(self, address=""):
        body = {"PoolID": self.pool_id, "Address": address, "Options": {**OPTIONS, **SWARM_SERIAL}}
        return self.ipam.call("IpamDriver.RequestAddress", body)["Address"]

    def end(self, cidr):
        self.ipam.call(
            "IpamDriver.ReleaseAddress", {"PoolID": self.pool_id, "Address": cidr.split("/")[0]}
        )

    def remove(self):
        self.plugin.call("NetworkDriver.FreeNetwork", {"NetworkID": _SWARM_NID})
        self.end(self.data[0]["Gateway"])
        self.ipam.call("IpamDriver.ReleasePool", {"PoolID": self.pool_id})


class Worker:
    """A worker's column of libnetwork §5.4."""

    def __init__(self, host):
        self.host, self.plugin, self.ipam = host, host.engine.network, host.engine.ipam

    def create(self, generic):
        pool = self.ipam.call(
            "IpamDriver.RequestPool",
            {**pool_body("10.21.59.0/24"), "Options": {**OPTIONS, **SWARM_SERIAL}},
        )
        gateway = self.ipam.call(
            "IpamDriver.RequestAddress",
            {"PoolID": pool["PoolID"], "Address": "10.21.59.1", "Options": GATEWAY},
        )["Address"]
        self.plugin.call(
            "NetworkDriver.CreateNetwork",
            {
                "NetworkID": _SWARM_NID,
                "Options": {"com.docker.network.generic": generic},
                "IPv6Data": [],
                "IPv4Data": [
                    {"AddressSpace": "nuage-local", "Pool": pool["Pool"], "Gateway": gateway}
                ],
            },
        )
        self.host.engine.pools[_SWARM_NID] = (pool["PoolID"], gateway.split("/")[0])
        self.host.api.networks[_SWARM_NID] = {
            "Id": _SWARM_NID,
            "Name": "snet",
            "Driver": "nuage",
            "Scope": "swarm",
            "Internal": False,
            "Options": generic,
            "Containers": {},
            "IPAM": {
                "Driver": "nuage-ipam",
                "Options": OPTIONS,
                "Config": [{"Subnet": pool["Pool"], "Gateway": gateway.split("/")[0]}],
            },
        }

    def run(self, name, cidr):
        return self.host.engine.run(name, _SWARM_NID, ip=cidr.split("/")[0])

    def stop(self, endpoint):
        self.host.engine.stop(endpoint)

    def remove(self):
        self.host.engine.network_rm(_SWARM_NID)


@pytest.mark.parametrize("is_one", [True, False], ids=["manager = worker", "manager and worker"])
def test_a_swarm_task_runs_where_the_worker_is_on_the_address_that_the_manager_reserved(
    hosts, is_one
):
    first = hosts(scope="global")
    second = first if is_one else hosts(scope="global")
    manager, worker = Manager(first), Worker(second)
    assert manager.create() == {"d": "e"}
    virtual, task = manager.task(), manager.task()
    assert len({virtual, task}) == 2 and first.links() == []
    worker.create({"d": "e"})
    endpoint = worker.run("task", task)
    assert endpoint["address"] == task
    second.wait_attached(endpoint)
    worker.stop(endpoint)
    assert manager.task() != task, "the worker's release must not free what the manager reserved"


def test_a_new_swarm_leader_replays_everything_without_an_error(hosts):
    first, second = hosts(scope="global"), hosts(scope="global")
    manager = Manager(first)
    manager.create()
    task = manager.task()
    leader = Manager(second)
    assert leader.create() == {"d": "e"}
    assert leader.allocate({"d": "e"}) == {"d": "e"}
    assert leader.task(task.split("/")[0]) == task
    leader.end(task)
    leader.remove()


def test_a_restarted_swarm_manager_replays_everything_without_an_error(hosts):
    host = hosts(scope="global")
    manager = Manager(host)
    manager.create()
    task = manager.task()
    host.restart()
    manager.create()
    assert manager.task(task.split("/")[0]) == task
    manager.end(task)
    manager.remove()
    host.wait_clean()


def test_a_worker_deletes_a_swarm_network_with_its_last_task_and_makes_it_again(hosts):
    host = hosts(scope="global")
    worker = Worker(host)
    for _ in range(3):
        worker.create({"d": "e"})
        endpoint = worker.run("task", "")
        host.wait_attached(endpoint)
        worker.stop(endpoint)
        worker.remove()
    host.wait_clean()
