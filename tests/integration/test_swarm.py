"""Swarm mode with the appliance as a managed plugin on every node: every test starts with a docker command.

The leader's plugin only reserves addresses; the plugin of the node where a task runs makes its port. At the end of every test nothing is left:
no VSD container, no reservation, no row, no link, on no host.
"""

import json
import time

import pytest

from nuage_lab.hosts.run import wait_until
from tests.support.invariants import address_of, engine_endpoints, vsd_endpoints
from tests.support.multihost import wait_reach
from tests.support.swarm import AUDIT_S, WAIT_S, attach, ipam_options, running_swarm

pytest_plugins = ["tests.support.lab"]


@pytest.fixture(scope="module")
def formed(tmp_path_factory, engine_name):
    """Two nodes: h1 is the manager, h2 a worker; both run tasks."""
    with running_swarm(tmp_path_factory.mktemp("swarm"), hosts=2, engine=engine_name) as swarm:
        yield swarm


@pytest.fixture()
def swarm(formed):
    """The swarm as every test finds it, and leaves it."""
    yield formed
    formed.remove_all()
    formed.wait_nothing_left()
    formed.check_logs()


def reach_all(swarm, name, count, on=None):
    """Wait until a service's tasks run; each is reached by ping and TCP from one on every host. Returns (host, container id) of each."""
    tasks = swarm.wait_tasks(name, count, on)
    swarm.wait_agreement()
    addresses = swarm.addresses(name)
    assert len(set(addresses.values())) == count
    first = {host.name: (host, container) for host, container in tasks}
    for host, container in first.values():
        for other, address in addresses.items():
            if other != container:
                wait_reach(host, container, address)
    return tasks


def test_containers_that_run_on_manager_and_worker_reach_each_other_on_an_attachable_network(swarm):
    h1, h2 = swarm.hosts
    swarm.create_network("net", "Subnet 1")
    ids = {host.name: attach(host, f"box-{host.name}", "net").stdout.strip() for host in (h2, h1)}
    swarm.wait_agreement()
    addresses = {host.name: address_of(host, f"box-{host.name}", "net") for host in swarm.hosts}
    wait_reach(h1, "box-h1", addresses["h2"])
    wait_reach(h2, "box-h2", addresses["h1"])
    # A network of the swarm is what its nodes see of it: the options are there, and each node's own containers.
    for host in swarm.hosts:
        shown = json.loads(host.docker("network", "inspect", "net").stdout)[0]
        assert {key: shown["IPAM"]["Options"][key] for key in ("organization", "domain", "zone", "subnet", "user")} == {
            "organization": "Enterprise", "domain": "Domain", "zone": "Zone", "subnet": "Subnet 1", "user": "admin"}
        assert shown["IPAM"]["Config"] == [{"Subnet": "10.21.58.0/24", "Gateway": "10.21.58.1"}] and shown["Scope"] == "swarm"
        assert set(shown["Containers"]) == {ids[host.name]}
        assert {(uuid, name) for uuid, name, *_ in vsd_endpoints(swarm.lab, host)} == {(ids[host.name], f"box-{host.name}")}


def test_the_replicas_of_a_service_are_on_all_nodes_and_follow_its_scale(swarm):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=4)
    reach_all(swarm, "web", 4, on=["h1", "h2"])
    # The VSD knows a task by its container's name, on the node where it runs.
    for host in swarm.hosts:
        names = {name for _, name, *_ in vsd_endpoints(swarm.lab, host)}
        assert names == {name for _, name, *_ in engine_endpoints(host)} and all(name.startswith("web.") for name in names)
    swarm.docker("service", "scale", "--detach", "web=6")
    swarm.wait_tasks("web", 6)
    swarm.wait_agreement()
    swarm.docker("service", "scale", "--detach", "web=2")
    swarm.wait_tasks("web", 2)
    swarm.wait_agreement()
    wait_until(lambda: len(swarm.reservations()) == 2, WAIT_S, "two addresses are reserved")
    found = swarm.wait_tasks("web", 2)
    # Names of a dnsrr service are the addresses of its tasks.
    host, container = found[0]
    answer = host.docker("exec", container, "nslookup", "web").stdout
    assert all(address in answer for address in swarm.addresses("web").values())


def test_the_vip_of_a_service_is_an_address_that_nobody_else_gets(swarm):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=2, mode="vip")
    reach_all(swarm, "web", 2)
    virtual = swarm.virtual_address("web")
    taken = {address for host in swarm.hosts for _, _, address, _ in engine_endpoints(host)}
    assert virtual not in taken
    assert dict(swarm.reservations()) == {virtual: "UNASSIGNED", **{address: "ASSIGNED" for address in taken}}
    refused = attach(swarm.hosts[1], "thief", "net", "--ip", virtual, check=False)
    assert refused.returncode != 0


def test_a_rolling_update_gives_every_task_an_address_and_returns_those_before(swarm):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", "--update-delay", "0s", "--update-parallelism", "1", replicas=3)
    before = {container for _, container in swarm.wait_tasks("web", 3)}
    swarm.docker("service", "update", "--detach", "--env-add", "VERSION=2", "web")
    wait_until(lambda: len(tasks := {container for _, container in swarm.tasks("web")}) == 3 and not tasks & before, WAIT_S, "all tasks are new ones", pause=0.5)
    reach_all(swarm, "web", 3)
    wait_until(lambda: len(swarm.reservations()) == 3, WAIT_S, "three addresses are reserved")


def test_the_tasks_of_a_drained_node_run_on_the_other_and_it_keeps_nothing(swarm):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=4)
    swarm.wait_tasks("web", 4, on=["h1", "h2"])
    swarm.docker("node", "update", "--availability", "drain", "h2")
    try:
        reach_all(swarm, "web", 4, on=["h1"])
        assert engine_endpoints(swarm.hosts[1]) == set()
    finally:
        swarm.docker("node", "update", "--availability", "active", "h2")
    swarm.wait_nodes_ready()
    swarm.docker("service", "scale", "--detach", "web=6")
    reach_all(swarm, "web", 6, on=["h1", "h2"])
