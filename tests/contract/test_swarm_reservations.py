"""Addresses in swarm mode: reserved by the manager's driver, used by the driver of another host,
free when both have let them go.

Every promise holds on a VSD that reserves addresses (from 20.5 on) and on one that does not, where
a container stands for the reservation. The engines' calls are those of libnetwork §5.4.
"""

import contextlib
import itertools
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import ovsdb as ovsdb_support
from tests.support.appliance import PATIENCE_S
from tests.support.host import Host, start_simulator
from tests.support.plugin_calls import refusal
from tests.support.scripted_engine import GATEWAY, OPTIONS
from tests.support.shifted_clock import launcher

SERIAL = {"com.docker.network.ipam.serial": "true"}
RESERVATION = "nuage-reservation"
GRACE_S = 0.2
AWAY = {"method": "*", "path": ".", "count": 0, "action": "reset"}
_NUMBERS = itertools.count(1)


class Vsd:
    """What the VSD has in the subnet of the tests."""

    def __init__(self, simulator, has_reservations, subnet="Subnet 2"):
        self.simulator, self.has_reservations = simulator, has_reservations
        self._client = simulator.client()
        self._client.me()
        enterprise = self._named("/enterprises", "Enterprise")
        domain = self._named(f"/enterprises/{enterprise}/domains", "Domain")
        self.subnet_id = self._named(f"/domains/{domain}/subnets", subnet)

    def _named(self, path, name):
        return next(
            one["ID"]
            for one in self._client.get(path, filter=f'name == "{name}"')[2]
            if one["name"] == name
        )

    def _list(self, path):
        status, _, body = self._client.get(path, page=0, page_size=500)
        assert status in (200, 404), (path, status, body)
        return body or [] if status == 200 else []

    def reservations(self):
        """The addresses that are reserved without a container, with their state."""
        return {
            one["IPV4Address"]: one["state"]
            for one in self._list(f"/subnets/{self.subnet_id}/vmipreservations")
        }

    def containers(self):
        """The containers by their address; each with its interface."""
        found = {}
        for interface in self._list(f"/subnets/{self.subnet_id}/containerinterfaces"):
            status, _, body = self._client.get(f"/containers/{interface['parentID']}")
            if status == 200:
                found[interface["IPAddress"]] = {**body[0], "interface": interface}
        return found

    def held(self):
        """The addresses that the VSD would not choose for anybody."""
        return {*self.reservations(), *self.containers()}

    def is_free(self, address):
        """Try to have an address for somebody else, and give it back; tell whether the VSD gave it.

        The VSD's own choice would tell less: it does not choose what was in use lately.
        """
        if self.has_reservations:
            path, body = (
                f"/subnets/{self.subnet_id}/vmipreservations",
                {"IPType": "IPV4", "IPV4Address": address},
            )
        else:
            uuid = secrets.token_hex(32)
            interface = {
                "name": f"other{next(_NUMBERS)}",
                "MAC": ":".join(["02", *(uuid[2 * place : 2 * place + 2] for place in range(5))]),
                "attachedNetworkID": self.subnet_id,
                "IPAddress": address,
            }
            path, body = (
                "/containers",
                {"UUID": uuid, "name": uuid, "externalID": "somebody", "interfaces": [interface]},
            )
        status, _, answer = self._client.post(path, body)
        assert status in (201, 409), answer
        if status == 201:
            kind = path.rpartition("/")[2]
            assert self._client.delete(f"/{kind}/{answer[0]['ID']}?responseChoice=1")[0] == 204
        return status == 201

    def wait_nothing_left(self, seconds=60.0):
        """Wait until the subnet is empty."""
        deadline = time.monotonic() + seconds
        while left := self.held():
            assert time.monotonic() < deadline, (
                f"left: {left}: {self.reservations()} "
                f"{[(one['externalID'], one['name']) for one in self.containers().values()]}"
            )
            time.sleep(0.05)

    def scrub(self):
        """By force: empty the subnet, whatever a failed test left."""
        for one in self.containers().values():
            self._client.delete(f"/containers/{one['ID']}?responseChoice=1")
        for one in self._list(f"/subnets/{self.subnet_id}/vmipreservations"):
            self._client.delete(f"/vmipreservations/{one['ID']}?responseChoice=1")


class Node:
    """One node of a swarm: its engine's manager part and its node part, both asking one driver."""

    def __init__(self, simulator, name):
        self.host = Host(
            simulator,
            name,
            scope="global",
            numofretries=2,
            timeinterval=10,
            requesttimeout=4,
            **launcher(grace_s=GRACE_S),
        )
        # those of which this manager told its driver: NetworkID -> global PoolID
        self.networks = {}

    def _ipam(self, method, body):
        return self.host.engine.ipam.call(f"IpamDriver.{method}", body)

    # -- as the manager that leads

    def lead(self, network_id, options=OPTIONS):
        """Allocate a network, or replay it after this manager has begun to lead."""
        pool = self._ipam(
            "RequestPool",
            {
                "AddressSpace": "nuage-global",
                "Pool": "",
                "SubPool": "",
                "Options": options,
                "V6": False,
            },
        )
        gateway = self._ipam(
            "RequestAddress",
            {"PoolID": pool["PoolID"], "Address": "", "Options": {**GATEWAY, **SERIAL, **options}},
        )["Address"]
        self.host.engine.network.call(
            "NetworkDriver.AllocateNetwork",
            {
                "NetworkID": network_id,
                "Options": {},
                "IPv4Data": [{"AddressSpace": "", "Gateway": gateway, "Pool": pool["Pool"]}],
                "IPv6Data": None,
            },
        )
        self.networks[network_id] = pool["PoolID"]

    def reserve(self, network_id, address=""):
        """An address for a task or a VIP; returns it."""
        answer = self._ipam(
            "RequestAddress",
            {
                "PoolID": self.networks[network_id],
                "Address": address,
                "Options": {**SERIAL, **OPTIONS},
            },
        )["Address"]
        found, _, prefix = answer.partition("/")
        assert prefix == "24" and address in ("", found), answer
        return found

    def give_back(self, network_id, address):
        """The task or VIP is over."""
        self._ipam("ReleaseAddress", {"PoolID": self.networks[network_id], "Address": address})

    def free(self, network_id):
        """`docker network rm`."""
        pool_id = self.networks.pop(network_id)
        self.host.engine.network.call("NetworkDriver.FreeNetwork", {"NetworkID": network_id})
        self._ipam("ReleaseAddress", {"PoolID": pool_id, "Address": "10.21.59.1"})
        self._ipam("ReleasePool", {"PoolID": pool_id})

    # -- as the node of a task

    def run(self, network_id, address, name="task"):
        """A task with an address that the manager reserved; its first one here makes the network
        known. Returns the endpoint.
        """
        engine, api = self.host.engine, self.host.api
        if network_id not in engine.pools:
            pool = self._ipam(
                "RequestPool",
                {
                    "AddressSpace": "nuage-local",
                    "Pool": "10.21.59.0/24",
                    "SubPool": "",
                    "Options": {**OPTIONS, **SERIAL},
                    "V6": False,
                },
            )
            self._ipam(
                "RequestAddress",
                {"PoolID": pool["PoolID"], "Address": "10.21.59.1", "Options": GATEWAY},
            )
            engine.network.call(
                "NetworkDriver.CreateNetwork",
                {
                    "NetworkID": network_id,
                    "IPv6Data": [],
                    "Options": {
                        "com.docker.network.enable_ipv6": False,
                        "com.docker.network.generic": {},
                    },
                    "IPv4Data": [
                        {
                            "AddressSpace": "nuage-local",
                            "Gateway": "10.21.59.1/24",
                            "Pool": "10.21.59.0/24",
                        }
                    ],
                },
            )
            engine.pools[network_id] = (pool["PoolID"], "10.21.59.1")
            api.networks[network_id] = {
                "Id": network_id,
                "Name": f"net-{network_id[:4]}",
                "Driver": "nuage:latest",
                "Scope": "swarm",
                "Internal": False,
                "Options": {},
                "Labels": {},
                "IPAM": {
                    "Driver": "nuage:latest",
                    "Options": {**OPTIONS, **SERIAL},
                    "Config": [{"Subnet": "10.21.59.0/24", "Gateway": "10.21.59.1"}],
                },
                "Containers": {},
            }
        endpoint = engine.run(name, network_id, ip=address)
        self.host.wait_attached(endpoint)
        return endpoint

    def end(self, endpoint):
        """The task is over on its node; with the last one the network goes from it, too."""
        engine, network_id = self.host.engine, endpoint["network_id"]
        engine.stop(endpoint)
        if not self.host.api.networks[network_id]["Containers"]:
            pool_id, gateway = engine.pools.pop(network_id)
            del self.host.api.networks[network_id]
            self._ipam("ReleaseAddress", {"PoolID": pool_id, "Address": gateway})
            self._ipam("ReleasePool", {"PoolID": pool_id})
            engine.network.call("NetworkDriver.DeleteNetwork", {"NetworkID": network_id})

    def crash(self):
        """The engine dies with its tasks, and is back without a word on them (libnetwork §5.4)."""
        self.host.api.networks.clear()
        self.host.api.containers.clear()
        self.host.engine.pools.clear()

    # -- the rest

    def audit(self, count=8):
        """So many audits, over more than their grace twice: an endpoint that they would take away
        is gone after them, and then its network.
        """
        for _ in range(count):
            assert self.host.appliance.audit()["is_complete"]
            time.sleep(GRACE_S / 2)

    def begin(self):
        """A clean beginning for a test."""
        self.crash()
        self.host.begin()
        for network_id in list(self.networks):
            self.free(network_id)


class Swarm:
    """Two managers and a worker, and the subnet that all tests use."""

    def __init__(self, simulator, has_reservations):
        self.vsd, self.has_reservations = Vsd(simulator, has_reservations), has_reservations
        self.nodes = [Node(simulator, name) for name in ("manager", "deputy", "worker")]
        self.manager, self.deputy, self.worker = self.nodes

    def new_network(self):
        """A network of the swarm, of which the manager is told."""
        network_id = f"{next(_NUMBERS):06d}{secrets.token_hex(10)}"[:25]
        self.manager.lead(network_id)
        return network_id

    def names_of_reserved(self):
        """The external ids of what holds the addresses of the subnet as a container."""
        return {address: one["externalID"] for address, one in self.vsd.containers().items()}

    def audit(self):
        """Have every host audit until it would have taken away what it takes for left over."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(Node.audit, self.nodes))

    def wait_vsd(self):
        """Wait until every driver has the VSD again."""
        for node in self.nodes:
            node.host.appliance.wait_until(
                lambda node=node: not node.host.appliance.status()["components"]["vsd"]["problem"],
                what="the VSD",
            )


@pytest.fixture(scope="module", params=["20.10", "6.0"], ids=["vsd-20.10", "vsd-6.0"])
def made(own_network, request):
    """A VSD of a release that reserves addresses, or of one that does not, and three hosts."""
    if not ovsdb_support.is_available():
        pytest.skip("ovsdb-server is not installed")
    with start_simulator("--release", request.param) as simulator:
        swarm = Swarm(simulator, request.param == "20.10")
        try:
            yield swarm
        finally:
            for node in swarm.nodes:
                node.host.close()


@pytest.fixture()
def swarm(made):
    """The hosts without a network, and an empty subnet, before and after; a bug of ours in a log
    fails the test.
    """
    made.vsd.simulator.admin("DELETE", "/faults")
    made.vsd.scrub()
    for node in made.nodes:
        node.begin()
    yield made
    made.vsd.simulator.admin("DELETE", "/faults")
    for node in made.nodes:
        node.host.check_log()
    made.vsd.wait_nothing_left()
    for node in made.nodes:
        node.host.wait_clean(15.0)
        for network_id in list(node.networks):
            node.free(network_id)


@contextlib.contextmanager
def away(swarm):
    """The VSD is away, and every driver knows."""
    swarm.vsd.simulator.admin("POST", "/faults", AWAY)
    try:
        yield
    finally:
        swarm.vsd.simulator.admin("DELETE", "/faults")


# -- a reservation -------------------------------------------------------------------------------


def test_a_reserved_address_is_no_container_of_any_host_and_nobody_elses(swarm):
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    assert swarm.vsd.held() == {address}
    assert swarm.names_of_reserved() == ({} if swarm.has_reservations else {address: RESERVATION})
    assert [node.host.containers() for node in swarm.nodes] == [[], [], []]
    assert not swarm.vsd.is_free(address)
    swarm.audit()
    for node in swarm.nodes:
        assert (
            node.host.appliance.status()["components"]["endpoints"]["states"] == {}
            and node.host.links() == []
        )
    assert swarm.vsd.held() == {address}, "an audit took a reservation away"
    swarm.manager.give_back(network_id, address)
    swarm.vsd.wait_nothing_left()


def test_a_fixed_address_is_reserved_as_asked(swarm):
    network_id = swarm.new_network()
    assert swarm.manager.reserve(network_id, "10.21.59.77") == "10.21.59.77"
    assert swarm.vsd.held() == {"10.21.59.77"}
    swarm.manager.give_back(network_id, "10.21.59.77")
    swarm.vsd.wait_nothing_left()


def test_the_gateway_and_the_network_reserve_nothing(swarm):
    network_id = swarm.new_network()
    assert swarm.vsd.held() == set()
    swarm.manager.lead(network_id)
    swarm.manager.free(network_id)
    assert swarm.vsd.held() == set()


def test_addresses_that_are_reserved_at_once_are_all_different(swarm):
    network_id = swarm.new_network()
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: swarm.manager.reserve(network_id), range(20)))
    assert len(set(found)) == 20 and swarm.vsd.held() == set(found)
    for address in found:
        swarm.manager.give_back(network_id, address)
    swarm.vsd.wait_nothing_left()


def test_a_manager_that_comes_to_lead_reserves_again_what_the_one_before_it_did(swarm):
    network_id = swarm.new_network()
    task, virtual = swarm.manager.reserve(network_id), swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, task)
    before = swarm.vsd.containers()
    swarm.deputy.lead(network_id)
    for address in (task, virtual):
        assert swarm.deputy.reserve(network_id, address) == address
    assert swarm.vsd.held() == {task, virtual} and swarm.vsd.containers().keys() == before.keys()
    third = swarm.deputy.reserve(network_id)
    assert third not in (task, virtual)
    swarm.worker.end(endpoint)
    for address in (task, virtual, third):
        swarm.deputy.give_back(network_id, address)
    swarm.vsd.wait_nothing_left()


def test_a_manager_that_leads_once_more_is_told_everything_again(swarm):
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    swarm.manager.lead(network_id)
    assert swarm.manager.reserve(network_id, address) == address
    assert swarm.manager.reserve(network_id) != address
    assert len(swarm.vsd.held()) == 2
    for one in swarm.vsd.held():
        swarm.manager.give_back(network_id, one)
    swarm.vsd.wait_nothing_left()


def test_an_address_of_a_service_cannot_be_asked_for_by_name(swarm):
    network_id = swarm.new_network()
    virtual = swarm.manager.reserve(network_id)
    assert virtual in refusal(swarm.manager.reserve, network_id, virtual)
    assert swarm.vsd.held() == {virtual}
    swarm.manager.give_back(network_id, virtual)
    assert swarm.manager.reserve(network_id, virtual) == virtual, "it is free again"
    swarm.manager.give_back(network_id, virtual)
    swarm.vsd.wait_nothing_left()


def test_a_reservation_of_which_the_vsds_reply_was_lost_is_not_left_over(swarm):
    network_id = swarm.new_network()
    for count in (1, 2):
        swarm.vsd.simulator.admin(
            "POST",
            "/faults",
            {
                "method": "POST",
                "path": "/containers$|/vmipreservations$",
                "count": count,
                "action": "reset_after",
            },
        )
        try:
            address = swarm.manager.reserve(network_id)
        except Exception as error:  # the engine would ask once more
            assert "internal error" not in str(error)
            address = None
        swarm.vsd.simulator.admin("DELETE", "/faults")
        if address is not None:
            assert address in swarm.vsd.held()
            swarm.manager.give_back(network_id, address)
        swarm.vsd.wait_nothing_left()


def test_a_full_subnet_is_said_and_nothing_is_left_of_the_attempt(swarm):
    tiny = Vsd(swarm.vsd.simulator, swarm.has_reservations, "Tiny")
    options = {**OPTIONS, "subnet": "Tiny"}
    manager = swarm.manager
    manager.lead("t" * 25, options)
    call = {"PoolID": manager.networks["t" * 25], "Address": "", "Options": {**SERIAL, **options}}
    found = [
        manager.host.engine.ipam.call("IpamDriver.RequestAddress", call)["Address"].split("/")[0]
        for _ in range(5)
    ]
    assert "no address is left" in refusal(
        manager.host.engine.ipam.call, "IpamDriver.RequestAddress", call
    )
    assert tiny.held() == set(found)
    for address in found:
        manager.give_back("t" * 25, address)
    tiny.wait_nothing_left()


# -- the worker takes it over --------------------------------------------------------------------


@contextlib.contextmanager
def rival(vsd, reserved):
    """Somebody who tries to have the reserved address all the time, before, in and after the block,
    and must never get it.
    """
    stop, begun, tries = threading.Event(), threading.Event(), []

    def go_on():
        own = Vsd(vsd.simulator, vsd.has_reservations)
        while not stop.is_set():
            tries.append(own.is_free(reserved))
            begun.set()
        tries.append(own.is_free(reserved))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert begun.wait(PATIENCE_S)
        yield
    finally:
        stop.set()
        thread.join()
    assert len(tries) > 1 and not any(tries), f"{reserved} was free for a moment"


@pytest.mark.parametrize("place", ["worker", "manager"])
def test_the_node_of_a_task_makes_the_reserved_address_its_containers(swarm, place):
    node = getattr(swarm, place)
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    with rival(swarm.vsd, address):
        endpoint = node.run(network_id, address, "web.1.abc")
        node.host.appliance.wait_until(
            lambda: swarm.vsd.containers()[address]["name"] == "web.1.abc",
            what="the container's name on the VSD",
        )
    held = swarm.vsd.containers()
    assert held.keys() == {address}
    one = held[address]
    assert (one["externalID"], one["UUID"]) == (node.host.name, endpoint["container_id"])
    assert one["interface"]["MAC"].lower() == endpoint["mac"]
    assert one["interface"]["name"] == endpoint["entity_port"].replace("-2", "-1")
    swarm.audit()
    assert swarm.vsd.containers()[address]["ID"] == one["ID"], (
        "an audit took a task's container away"
    )
    with rival(swarm.vsd, address):
        node.end(endpoint)
    swarm.manager.give_back(network_id, address)
    swarm.vsd.wait_nothing_left()


def test_a_task_may_bring_its_own_mac(swarm):
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, address)
    swarm.worker.end(endpoint)
    other = swarm.manager.reserve(network_id)
    swarm.manager.give_back(network_id, address)
    with rival(swarm.vsd, other):
        swarm.worker.run(network_id, other)  # makes the network known again
        third = swarm.manager.reserve(network_id)
        swarm.worker.host.engine.setup(network_id, ip=third, mac="02:42:0a:15:3b:07")
    assert swarm.vsd.containers()[third]["interface"]["MAC"].lower() == "02:42:0a:15:3b:07"
    swarm.worker.crash()
    for address in (other, third):
        swarm.manager.give_back(network_id, address)
    swarm.worker.audit()
    swarm.vsd.wait_nothing_left()


@pytest.mark.parametrize("first", ["manager", "worker"])
def test_an_address_is_free_when_manager_and_worker_have_let_it_go_in_either_order(swarm, first):
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, address)
    steps = [
        lambda: swarm.manager.give_back(network_id, address),
        lambda: swarm.worker.end(endpoint),
    ]
    if first == "worker":
        steps.reverse()
    steps[0]()
    assert not swarm.vsd.is_free(address)
    other = swarm.manager.reserve(network_id)
    assert other != address, "only one of the two has let it go"
    swarm.audit()
    assert not swarm.vsd.is_free(address)
    steps[1]()
    swarm.manager.give_back(network_id, other)
    swarm.vsd.wait_nothing_left()
    assert swarm.manager.reserve(network_id, address) == address, "it is free"
    swarm.manager.give_back(network_id, address)
    swarm.vsd.wait_nothing_left()


def test_releases_may_come_twice_and_for_what_nobody_had(swarm):
    network_id = swarm.new_network()
    address, kept = swarm.manager.reserve(network_id), swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, kept)
    for _ in range(2):
        swarm.manager.give_back(network_id, address)
        swarm.manager.give_back(network_id, "10.21.59.200")
        swarm.manager.give_back(network_id, "10.21.59.1")
    assert (
        swarm.vsd.held() == {kept}
        and swarm.vsd.containers()[kept]["externalID"] == swarm.worker.host.name
    )
    swarm.worker.end(endpoint)
    for _ in range(2):
        swarm.manager.give_back(network_id, kept)
    swarm.vsd.wait_nothing_left()


def test_an_address_is_used_by_one_task_after_another(swarm):
    network_id = swarm.new_network()
    for number in range(3):
        address = swarm.manager.reserve(network_id)
        node = swarm.nodes[number]
        endpoint = node.run(network_id, address, f"task-{number}")
        assert swarm.vsd.containers()[address]["externalID"] == node.host.name
        swarm.manager.give_back(network_id, address)
        node.end(endpoint)
        swarm.vsd.wait_nothing_left()


# -- deaths --------------------------------------------------------------------------------------


def test_a_manager_that_dies_between_reservation_and_release_loses_no_address(swarm):
    network_id = swarm.new_network()
    task, virtual = swarm.manager.reserve(network_id), swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, task)
    swarm.manager.host.restart()
    swarm.manager.audit()
    assert swarm.vsd.held() == {task, virtual}
    swarm.manager.lead(network_id)
    for address in (task, virtual):
        assert swarm.manager.reserve(network_id, address) == address
    assert swarm.vsd.held() == {task, virtual}
    swarm.manager.give_back(network_id, virtual)
    swarm.worker.end(endpoint)
    swarm.manager.give_back(network_id, task)
    swarm.vsd.wait_nothing_left()


def test_a_worker_that_dies_keeps_its_endpoint(swarm):
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, address)
    swarm.worker.host.restart()
    swarm.worker.audit()
    assert swarm.vsd.containers()[address]["UUID"] == endpoint["container_id"]
    swarm.manager.give_back(network_id, address)
    swarm.worker.end(endpoint)
    swarm.vsd.wait_nothing_left()


def test_a_worker_that_dies_between_take_over_and_endpoint_leaves_the_reservation_to_the_manager(
    swarm,
):
    network_id = swarm.new_network()
    first, second = swarm.manager.reserve(network_id), swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, first)
    swarm.worker.host.engine.ipam.call(
        "IpamDriver.RequestAddress",
        {
            "PoolID": swarm.worker.host.engine.pools[network_id][0],
            "Address": second,
            "Options": None,
        },
    )
    swarm.worker.host.restart()
    swarm.worker.audit()
    assert not swarm.vsd.is_free(second), "the manager has not let it go"
    assert swarm.vsd.held() == {first, second}
    swarm.worker.end(endpoint)
    for address in (first, second):
        swarm.manager.give_back(network_id, address)
    swarm.vsd.wait_nothing_left()


@pytest.mark.parametrize("first", ["manager", "audit"])
def test_what_a_dead_worker_left_is_released_and_its_address_is_nobody_elses_before(swarm, first):
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    swarm.worker.run(network_id, address)
    swarm.worker.crash()
    steps = [lambda: swarm.manager.give_back(network_id, address), swarm.worker.audit]
    if first == "audit":
        steps.reverse()
    steps[0]()
    assert not swarm.vsd.is_free(address)
    rescheduled = swarm.manager.reserve(network_id)
    assert rescheduled != address
    moved = swarm.deputy.run(network_id, rescheduled)
    steps[1]()
    swarm.deputy.end(moved)
    swarm.manager.give_back(network_id, rescheduled)
    swarm.vsd.wait_nothing_left()
    swarm.worker.host.wait_clean()


# -- the VSD is away -----------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True], ids=["driver-lives", "driver-dies"])
def test_a_release_on_the_manager_succeeds_while_the_vsd_is_away_and_is_made_up_for(swarm, dies):
    network_id = swarm.new_network()
    address, used = swarm.manager.reserve(network_id), swarm.manager.reserve(network_id)
    endpoint = swarm.worker.run(network_id, used)
    with away(swarm):
        for one in (address, used):
            swarm.manager.give_back(network_id, one)
        swarm.worker.end(endpoint)
        if dies:
            swarm.manager.host.restart(wait=False)
    swarm.vsd.wait_nothing_left()


def test_an_address_that_is_reserved_again_is_not_released_by_what_was_held_back(swarm):
    network_id = swarm.new_network()
    address = swarm.manager.reserve(network_id)
    with away(swarm):
        swarm.manager.give_back(network_id, address)
    swarm.wait_vsd()
    assert swarm.manager.reserve(network_id, address) == address
    endpoint = swarm.worker.run(network_id, address)
    swarm.manager.audit()
    assert swarm.vsd.containers()[address]["UUID"] == endpoint["container_id"]
    assert not swarm.vsd.is_free(address)
    swarm.worker.end(endpoint)
    assert not swarm.vsd.is_free(address), "the manager has it still"
    swarm.manager.give_back(network_id, address)
    swarm.vsd.wait_nothing_left()


def test_a_reservation_while_the_vsd_is_away_is_refused_in_time_and_leaves_nothing(swarm):
    network_id = swarm.new_network()
    with away(swarm):
        started = time.monotonic()
        assert "the VSD" in refusal(swarm.manager.reserve, network_id)
        assert time.monotonic() - started < 20
    swarm.wait_vsd()
    swarm.vsd.wait_nothing_left()


# -- networks ------------------------------------------------------------------------------------


def test_a_network_that_is_removed_while_its_tasks_end_gives_all_its_addresses_back(swarm):
    network_id = swarm.new_network()
    tasks = [swarm.manager.reserve(network_id) for _ in range(3)]
    endpoint = swarm.worker.run(network_id, tasks[0])
    # The engine frees the network and never releases the addresses of the tasks that still end.
    swarm.manager.free(network_id)
    assert not swarm.vsd.is_free(tasks[0]), "its task is not over yet"
    swarm.worker.end(endpoint)
    swarm.vsd.wait_nothing_left()


def test_the_removal_of_one_of_two_networks_on_a_subnet_leaves_the_others_addresses_alone(swarm):
    first, second = swarm.new_network(), swarm.new_network()
    mine, other = swarm.manager.reserve(first), swarm.manager.reserve(second)
    assert mine != other
    endpoint = swarm.worker.run(second, other)
    swarm.manager.give_back(first, mine)
    swarm.manager.free(first)
    swarm.manager.audit()
    assert swarm.vsd.held() == {other}
    swarm.worker.end(endpoint)
    assert not swarm.vsd.is_free(other)
    swarm.manager.give_back(second, other)
    swarm.manager.free(second)
    swarm.vsd.wait_nothing_left()
