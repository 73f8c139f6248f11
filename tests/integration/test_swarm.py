"""Swarm mode with the appliance as a managed plugin on every node: every test starts with a docker
command.

The leader's plugin only reserves addresses; the plugin of the node where a task runs makes its
port. At the end of every test nothing is left: no VSD container, no reservation, no row, no link,
on no host.
"""

import json

import pytest

from nuage_lab import managed_plugin
from nuage_lab.hosts.run import wait_until
from tests.support.invariants import address_of, engine_endpoints, vsd_endpoints
from tests.support.lab import wait_ready
from tests.support.multihost import wait_reach
from tests.support.swarm import (
    AUDIT_S,
    DRIVER,
    IPAM_DRIVER,
    WAIT_S,
    attach,
    ipam_options,
    running_swarm,
)


@pytest.fixture(scope="module")
def formed(tmp_path_factory, engine_name):
    """Two nodes: h1 is the manager, h2 a worker; both run tasks."""
    with running_swarm(tmp_path_factory.mktemp("swarm"), hosts=2, engine=engine_name) as swarm:
        yield swarm


@pytest.fixture()
def swarm(formed):
    """The swarm as every test finds it, and leaves it."""
    yield formed
    formed.bring_back()
    formed.remove_all()
    formed.wait_nothing_left()
    formed.check_logs()


@pytest.fixture(params=["stopped", "killed"])
def how(request):
    """How an engine ends. What a killed one leaves is found by audits, in two minutes: that takes
    long.
    """
    if request.param == "killed":
        request.getfixturevalue("long_tests")
    return request.param


def reach_all(swarm, name, count, on=None):
    """Wait until a service's tasks run; each is reached by ping and TCP from one on every host.
    Returns (host, container id) of each.
    """
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


def end_engine(host, how):
    """Stop an engine, or kill it, which leaves its containers and says nothing of them
    to anybody.
    """
    if how == "stopped":
        host.engine.stop(timeout=WAIT_S)
    else:
        host.engine.kill()


def test_containers_that_run_on_manager_and_worker_reach_each_other_on_an_attachable_network(swarm):
    h1, h2 = swarm.hosts
    swarm.create_network("net", "Subnet 1")
    ids = {host.name: attach(host, f"box-{host.name}", "net").stdout.strip() for host in (h2, h1)}
    swarm.wait_agreement()
    addresses = {host.name: address_of(host, f"box-{host.name}", "net") for host in swarm.hosts}
    wait_reach(h1, "box-h1", addresses["h2"])
    wait_reach(h2, "box-h2", addresses["h1"])
    # A network of the swarm is what its nodes see of it: the options are there, and each node's own
    # containers.
    for host in swarm.hosts:
        shown = json.loads(host.docker("network", "inspect", "net").stdout)[0]
        assert {
            key: shown["IPAM"]["Options"][key]
            for key in ("organization", "domain", "zone", "subnet", "user")
        } == {
            "organization": "Enterprise",
            "domain": "Domain",
            "zone": "Zone",
            "subnet": "Subnet 1",
            "user": "admin",
        }
        assert (
            shown["IPAM"]["Config"] == [{"Subnet": "10.21.58.0/24", "Gateway": "10.21.58.1"}]
            and shown["Scope"] == "swarm"
        )
        assert set(shown["Containers"]) == {ids[host.name]}
        assert {(uuid, name) for uuid, name, *_ in vsd_endpoints(swarm.lab, host)} == {
            (ids[host.name], f"box-{host.name}")
        }


def test_the_replicas_of_a_service_are_on_all_nodes_and_follow_its_scale(swarm):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=4)
    reach_all(swarm, "web", 4, on=["h1", "h2"])
    # The VSD knows a task by its container's name, on the node where it runs.
    for host in swarm.hosts:
        names = {name for _, name, *_ in vsd_endpoints(swarm.lab, host)}
        assert names == {name for _, name, *_ in engine_endpoints(host)} and all(
            name.startswith("web.") for name in names
        )
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
    assert dict(swarm.reservations()) == {
        virtual: "UNASSIGNED",
        **{address: "ASSIGNED" for address in taken},
    }


def test_the_address_of_a_service_cannot_be_taken_by_a_container(long_tests, swarm):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=1, mode="vip")
    swarm.wait_tasks("web", 1)
    virtual = swarm.virtual_address("web")
    # The engine waits for 20 s for an address, whatever the manager's plugin says.
    done = attach(swarm.hosts[1], "thief", "net", "--ip", virtual, check=False)
    assert done.returncode != 0, f"a container got {virtual}, which is the service's"


def test_a_rolling_update_gives_every_task_an_address_and_returns_those_before(long_tests, swarm):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service(
        "web", "net", "--update-delay", "0s", "--update-parallelism", "1", replicas=3
    )
    before = {container for _, container in swarm.wait_tasks("web", 3)}
    swarm.docker("service", "update", "--detach", "--env-add", "VERSION=2", "web")
    wait_until(
        lambda: (
            len(tasks := {container for _, container in swarm.tasks("web")}) == 3
            and not tasks & before
        ),
        WAIT_S,
        "all tasks are new ones",
        pause=0.5,
    )
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


def test_a_network_removed_while_its_tasks_still_end_leaves_no_reservation(swarm):
    network = swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=4)
    swarm.wait_tasks("web", 4)
    swarm.docker("service", "rm", "web")
    # The manager frees the network at once and then returns no task's address any more.
    wait_until(
        lambda: not swarm.docker("network", "rm", network, check=False).returncode,
        WAIT_S,
        "the network is removed",
    )
    swarm.wait_nothing_left()


def test_the_tasks_of_a_worker_whose_engine_dies_run_elsewhere_and_what_it_left_is_released(
    long_tests, swarm
):
    _, h2 = swarm.hosts
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=4)
    swarm.wait_tasks("web", 4, on=["h1", "h2"])
    swarm.wait_agreement()
    h2.engine.kill()
    moved = swarm.wait_tasks("web", 4, on=["h1"])
    # The containers of the dead engine may still run: their addresses are nobody else's.
    held = {address for _, _, address, *_ in vsd_endpoints(swarm.lab, h2)}
    assert len(held) == 2 and not held & {
        address for _, _, address, _ in engine_endpoints(swarm.hosts[0])
    }
    host, container = moved[0]
    for address in swarm.addresses("web").values():
        wait_reach(host, container, address)
    h2.engine.start()
    swarm.wait_nodes_ready()
    # The engine says nothing of what it lost, so the audit finds it.
    swarm.wait_agreement(seconds=AUDIT_S)
    swarm.docker("service", "update", "--detach", "--force", "web")
    reach_all(swarm, "web", 4, on=["h1", "h2"])


def test_the_tasks_of_a_host_that_dies_run_elsewhere_and_what_it_left_is_released_when_it_is_back(
    long_tests, swarm
):
    _, h2 = swarm.hosts
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=4)
    attach(h2, "box", "net", "--restart", "always")
    swarm.wait_tasks("web", 4, on=["h1", "h2"])
    swarm.wait_agreement()
    swarm.lab.kill("h2")
    swarm.wait_tasks("web", 4, on=["h1"])
    swarm.wait_agreement([swarm.hosts[0]])
    held = {address for _, _, address, *_ in vsd_endpoints(swarm.lab, h2)}
    assert len(held) == 3 and not held & {
        address for _, _, address, _ in engine_endpoints(swarm.hosts[0])
    }
    swarm.lab.revive("h2", appliance=False)
    swarm.wait_nodes_ready()
    wait_until(
        lambda: engine_endpoints(h2),
        WAIT_S,
        "the container that is always restarted runs again",
        pause=0.5,
    )
    swarm.wait_agreement(seconds=AUDIT_S)
    swarm.docker("service", "update", "--detach", "--force", "web")
    reach_all(swarm, "web", 4, on=["h1", "h2"])


def test_the_engine_of_the_only_manager_restarts_and_its_replay_is_no_conflict(
    long_tests, how, swarm
):
    h1, h2 = swarm.hosts
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=2, mode="vip")
    attach(h2, "box", "net")
    tasks = swarm.wait_tasks("web", 2, on=["h1", "h2"])
    swarm.wait_agreement()
    on_worker = next(container for host, container in tasks if host == h2)
    before = {container: address for container, _, address, _ in engine_endpoints(h2)}
    virtual = swarm.virtual_address("web")
    end_engine(h1, how)
    h1.engine.start()
    swarm.wait_nodes_ready()
    swarm.wait_tasks("web", 2, on=["h1", "h2"])
    swarm.wait_agreement(seconds=AUDIT_S)
    assert {
        container: address for container, _, address, _ in engine_endpoints(h2)
    } == before and on_worker in before, "the worker's containers run on"
    assert (
        swarm.virtual_address("web") == virtual and (virtual, "UNASSIGNED") in swarm.reservations()
    )
    swarm.docker("service", "scale", "--detach", "web=4")
    reach_all(swarm, "web", 4)


def test_a_plugin_that_is_killed_is_started_again_by_the_engine_and_loses_nothing(
    long_tests, swarm
):
    swarm.create_network("net", "Subnet 1")
    swarm.create_service("web", "net", replicas=4)
    swarm.wait_tasks("web", 4, on=["h1", "h2"])
    swarm.wait_agreement()
    before = {host.name: engine_endpoints(host) for host in swarm.hosts}
    killed = {host.name: managed_plugin.process(host) for host in swarm.hosts}
    for host in swarm.hosts:
        host.exec(["kill", "-KILL", str(killed[host.name])])
    for host in swarm.hosts:
        wait_until(
            lambda host=host: managed_plugin.process(host) not in (None, killed[host.name]),
            WAIT_S,
            f"the plugin of {host.name} runs again",
            pause=0.5,
        )
        wait_ready(host)
    assert {host.name: engine_endpoints(host) for host in swarm.hosts} == before
    swarm.docker("service", "scale", "--detach", "web=6")
    reach_all(swarm, "web", 6, on=["h1", "h2"])


def test_a_network_of_node_local_configurations_has_addresses_of_one_subnet_on_all_nodes(
    long_tests, swarm
):
    h1, h2 = swarm.hosts
    # The engine takes --config-from for drivers of that scope only.
    with swarm.configured(scope="local"):
        for host in swarm.hosts:
            host.docker(
                "network",
                "create",
                "--config-only",
                "--ipam-driver",
                IPAM_DRIVER,
                "--subnet",
                "10.21.58.0/24",
                *ipam_options("Subnet 1"),
                "config",
            )
        swarm.docker(
            "network",
            "create",
            "--driver",
            DRIVER,
            "--scope",
            "swarm",
            "--attachable",
            "--config-from",
            "config",
            "net",
        )
        for host in swarm.hosts:
            attach(host, f"box-{host.name}", "net")
        swarm.create_service("web", "net", replicas=4)
        reach_all(swarm, "web", 4, on=["h1", "h2"])
        wait_reach(h1, "box-h1", address_of(h2, "box-h2", "net"))
        assert swarm.reservations() == [], "each node asks the VSD for its own"
        swarm.remove_all()
        swarm.wait_nothing_left(AUDIT_S)


# -- three managers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def formed_of_three(tmp_path_factory, engine_name):
    """Three nodes, all of them managers."""
    with running_swarm(
        tmp_path_factory.mktemp("swarm3"), hosts=3, managers=3, engine=engine_name
    ) as swarm:
        yield swarm


@pytest.fixture()
def three(formed_of_three):
    """The swarm of three as every test finds it, and leaves it."""
    yield formed_of_three
    formed_of_three.bring_back()
    formed_of_three.remove_all()
    formed_of_three.wait_nothing_left(AUDIT_S)
    formed_of_three.check_logs()


def test_the_manager_that_leads_next_knows_every_address_and_gives_none_twice(how, three):
    three.create_network("net", "Subnet 1")
    three.create_service("web", "net", replicas=3, mode="vip")
    three.wait_tasks("web", 3, on=["h1", "h2", "h3"])
    three.wait_agreement()
    virtual, before, dead = (
        three.virtual_address("web"),
        dict(three.addresses("web")),
        three.wait_leader(),
    )
    end_engine(dead, how)
    leader = wait_until(
        lambda: (found := three.leader()) is not None and found is not dead and found,
        WAIT_S,
        "another manager leads",
        pause=0.5,
    )
    others = [host for host in three.hosts if host is not dead]
    assert leader in others
    three.docker("service", "update", "--detach", "--replicas", "5", "web")
    tasks = three.wait_tasks("web", 5, on=[host.name for host in others])
    three.wait_agreement(others)
    running = {container for host in others for container, *_ in engine_endpoints(host)}
    # What was stopped may have been released; what runs on without its engine was not.
    held = {
        address for container, address in before.items() if how == "killed" or container in running
    }
    new = {
        address for container, address in three.addresses("web").items() if container not in before
    }
    assert len(new) == 3 and not new & (held | {virtual}), "an address of before was given again"
    assert three.virtual_address("web") == virtual
    three.create_service("next", "net", replicas=2)
    three.wait_tasks("next", 2)
    three.wait_agreement(others)
    host, container = tasks[0]
    for address in {**three.addresses("web"), **three.addresses("next")}.values():
        wait_reach(host, container, address)
    dead.engine.start()
    three.wait_nodes_ready()
