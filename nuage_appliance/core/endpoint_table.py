"""The table of this host's endpoints, and what it is read back from after a start.

Owns the records, their indices, and the numbers of the veth pairs. Must never give out a number that a device, a port, a
row or a VSD interface of this host carries. Nothing here does I/O or switches greenlets, but wait_complete.
"""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
import threading
import time
from collections.abc import Callable, Iterable

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Unavailable
from nuage_appliance.model import (
    DELETED_ALIAS,
    Address,
    Container,
    ContainerInterface,
    Identity,
    Interface,
    Link,
    PortState,
    Stage,
    Place,
    VethPair,
)

_REMEMBERED = 20_000
_READING_S = 150.0  # longer than any list of the VSD is read
_PIECE = 100


@dataclasses.dataclass(eq=False, slots=True)
class Endpoint:
    """One endpoint. Only the core changes it; others read it."""

    address: Address
    prefix_len: int
    gateway: str
    mac: str
    pair: VethPair
    subnet_id: str = ""
    is_l2: bool = False
    place: Place | None = None
    domain_id: str = ""
    vsd_id: str = ""
    uuid: str = ""
    name: str = ""
    interface_id: str = ""
    vport_id: str = ""
    endpoint_id: str = ""
    network_id: str = ""
    stage: Stage = Stage.RESERVED
    identity: Identity | None = None
    has_link: bool = False
    is_leaving: bool = False
    is_unlinked: bool = False
    is_recovered: bool = False
    lost_address: bool = False
    problem: str = ""
    changed_at: float = 0.0
    attached_at: float | None = None
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock, repr=False)

    @property
    def port_name(self) -> str:
        """The bridge side of its veth pair."""
        return self.pair.bridge_port

    @property
    def interface(self) -> Interface:
        """Its address with the prefix length, which is how the engine wants it: 10.0.0.5/24."""
        return ipaddress.ip_interface((self.address, self.prefix_len))


class EndpointTable:
    """All endpoints, by every name that a caller may know them under."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_address: dict[tuple[str, Address], Endpoint] = {}
        self._by_endpoint: dict[str, Endpoint] = {}
        self._by_vsd: dict[str, Endpoint] = {}
        self._by_port: dict[str, Endpoint] = {}
        self._by_uuid: dict[str, Endpoint] = {}
        self._used_numbers: set[int] = set()
        self._device_numbers: set[int] = set()
        self._last_pair = VethPair(0)
        self.pending_delete: dict[str, Endpoint] = {}
        self._released: collections.OrderedDict[str, float] = collections.OrderedDict()
        self.bridge_mtu = 0
        self.are_ports_read = False
        self._is_complete = threading.Event()
        self._why_incomplete = "the containers of this host were not read from the VSD yet"

    @property
    def all(self) -> list[Endpoint]:
        """A copy of the table."""
        return list(self._by_port.values())

    def by_endpoint(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint with an id of the engine's."""
        return self._by_endpoint.get(endpoint_id)

    def by_port(self, port_name: str) -> Endpoint | None:
        """The endpoint with a bridge port."""
        return self._by_port.get(port_name)

    def by_vsd(self, vsd_id: str) -> Endpoint | None:
        """The endpoint of a VSD container."""
        return self._by_vsd.get(vsd_id)

    def by_address(self, subnet_ids: Iterable[str], address: Address) -> Endpoint | None:
        """The endpoint that holds an address in a subnet, under whichever of its ids."""
        found = (self._by_address.get((subnet_id, address)) for subnet_id in subnet_ids)
        return next((endpoint for endpoint in found if endpoint is not None), None)

    def by_uuid(self, uuid: str) -> Endpoint | None:
        """The endpoint whose VSD container bears a UUID."""
        endpoint = self._by_uuid.get(uuid)
        return endpoint if endpoint is not None and endpoint.uuid == uuid else None

    def put(self, endpoint: Endpoint) -> None:
        """Insert an endpoint, or index it anew after its names changed. It is young again."""
        endpoint.changed_at = self._clock()
        self._index(endpoint)

    def now_s(self) -> float:
        """The time by which changed_at is measured."""
        return self._clock()

    def age_s(self, endpoint: Endpoint) -> float:
        """Seconds since an endpoint changed last, in which this process ran."""
        return self._clock() - endpoint.changed_at

    def _index(self, endpoint: Endpoint) -> None:
        self._by_port[endpoint.port_name] = endpoint
        self._used_numbers.add(endpoint.pair.number)
        if endpoint.subnet_id:
            self._by_address[endpoint.subnet_id, endpoint.address] = endpoint
        if endpoint.vsd_id:
            self._by_vsd[endpoint.vsd_id] = endpoint
        if endpoint.endpoint_id:
            self._by_endpoint[endpoint.endpoint_id] = endpoint
        if endpoint.uuid:
            self._by_uuid[endpoint.uuid] = endpoint

    def rename(self, endpoint: Endpoint, uuid: str, name: str) -> None:
        """The VSD calls the endpoint's container otherwise now."""
        if self._by_uuid.get(endpoint.uuid) is endpoint:
            del self._by_uuid[endpoint.uuid]
        endpoint.uuid, endpoint.name = uuid, name
        endpoint.changed_at = self._clock()
        self._by_uuid[uuid] = endpoint

    def drop(self, endpoint: Endpoint) -> None:
        """Remove an endpoint; its number stays taken until free_number."""
        for table, key in (
            (self._by_port, endpoint.port_name),
            (self._by_address, (endpoint.subnet_id, endpoint.address)),
            (self._by_vsd, endpoint.vsd_id),
            (self._by_endpoint, endpoint.endpoint_id),
            (self._by_uuid, endpoint.uuid),
        ):
            if table.get(key) is endpoint:
                del table[key]

    def mark_deleted(self, endpoint: Endpoint) -> None:
        """Its VSD container is gone; a list that was being read meanwhile must not bring it back."""
        self.pending_delete.pop(endpoint.vsd_id, None)
        now_s = self._clock()
        self._released[endpoint.vsd_id] = now_s
        while (
            len(self._released) > _REMEMBERED
            or now_s - next(iter(self._released.values())) > _READING_S
        ):
            self._released.popitem(last=False)

    def undelete(self, vsd_id: str) -> None:
        """A container that this host gave back is its own again: a swarm's reservation that was taken over once more."""
        self.pending_delete.pop(vsd_id, None)
        self._released.pop(vsd_id, None)

    def is_deleted(self, vsd_id: str) -> bool:
        """True for a VSD container that this host is deleting, or has deleted."""
        return vsd_id in self.pending_delete or vsd_id in self._released

    def forget_endpoint_id(self, endpoint: Endpoint) -> None:
        """The engine knows the endpoint no more; its address may still be reserved."""
        if self._by_endpoint.get(endpoint.endpoint_id) is endpoint:
            del self._by_endpoint[endpoint.endpoint_id]
        endpoint.changed_at = self._clock()

    def move(self, endpoint: Endpoint, pair: VethPair) -> None:
        """Give the endpoint another veth pair; the old number stays taken, because something foreign carries it."""
        if self._by_port.get(endpoint.port_name) is endpoint:
            del self._by_port[endpoint.port_name]
        endpoint.pair = pair
        self.put(endpoint)

    # -- numbers ----------------------------------------------------------------------------------

    def take_number(self, pair: VethPair) -> None:
        """Something of this host carries the pair's number."""
        self._used_numbers.add(pair.number)
        if pair.number > self._last_pair.number and not pair.is_of_reservation:
            self._last_pair = pair

    def free_number(self, pair: VethPair) -> None:
        """Nothing carries the pair's number any more."""
        self._used_numbers.discard(pair.number)
        self._device_numbers.discard(pair.number)

    def had_device(self, pair: VethPair) -> bool:
        """True when a device of that pair was on the host at the start."""
        return pair.number in self._device_numbers

    def next_pair(self) -> VethPair:
        """A pair with a number that is free; numbers go up, so that one is not used again soon."""
        pair = self._last_pair.next()
        while pair.number in self._used_numbers:
            pair = pair.next()
        self._used_numbers.add(pair.number)
        self._last_pair = pair
        return pair

    # -- recovery ---------------------------------------------------------------------------------

    def wait_complete(self, deadline: Deadline) -> None:
        """Wait until the VSD's containers of this host were read once; raises Unavailable. Switches greenlets."""
        if not self._is_complete.wait(timeout=deadline.remaining_s()):
            raise Unavailable(self._why_incomplete)

    @property
    def is_complete(self) -> bool:
        """True after the VSD's containers of this host were read once."""
        return self._is_complete.is_set()

    @property
    def problem(self) -> str:
        """Why the table is not complete, or an empty text."""
        return "" if self._is_complete.is_set() else self._why_incomplete

    def incomplete_because(self, reason: str) -> None:
        """Say why the VSD's list could not be read, for the calls that wait for it."""
        self._why_incomplete = reason

    def absorb_links(self, links: Iterable[Link], bridge: str) -> list[str]:
        """Take over what the host's devices say; call it once, before the first call is served.

        Returns the links that were being deleted when the last life ended.
        """
        half_deleted = []
        for link in links:
            if link.name == bridge:
                self.bridge_mtu = link.mtu
            pair = VethPair.of(link.name)
            if pair is None:
                continue
            self.take_number(pair)
            self._device_numbers.add(pair.number)
            if (
                link.alias == DELETED_ALIAS
                and link.kind == "veth"
                and link.name == pair.bridge_port
            ):
                half_deleted.append(link.name)
            tag = link.tag
            if tag is None or link.name in self._by_port:
                continue
            try:
                interface = ipaddress.ip_interface(tag.address)
            except ValueError:
                continue
            self.put(
                Endpoint(
                    address=interface.ip,
                    prefix_len=interface.network.prefixlen,
                    gateway=tag.gateway,
                    mac=tag.mac,
                    pair=pair,
                    vsd_id=tag.vsd_container_id,
                    endpoint_id=tag.endpoint_id,
                    network_id=tag.network_id,
                    stage=Stage.JOINED,
                    has_link=True,
                )
            )
        return half_deleted

    def absorb_ports(self, ports: dict[str, PortState]) -> None:
        """Take over what the VRS says; call it when its mirror became complete."""
        self.are_ports_read = True
        for name, port in ports.items():
            pair = VethPair.of(name)
            if pair is not None:
                self.take_number(pair)
            endpoint = self._by_port.get(name)
            if (
                endpoint is not None
                and port.is_complete
                and endpoint.stage in (Stage.JOINED, Stage.CREATED, Stage.RESERVED)
            ):
                self._adopt_port(endpoint, port.entity_uuid, port.external_ids)

    @staticmethod
    def _adopt_port(endpoint: Endpoint, entity_uuid: str, external_ids: dict[str, str]) -> None:
        endpoint.stage, endpoint.problem = Stage.ATTACHED, ""
        endpoint.endpoint_id = endpoint.endpoint_id or external_ids.get("nuage-endpoint-id", "")
        endpoint.network_id = endpoint.network_id or external_ids.get("nuage-network-id", "")
        endpoint.uuid = endpoint.uuid or entity_uuid
        if endpoint.identity is None and external_ids.get("vm_uuid"):
            endpoint.identity = Identity(external_ids["vm_uuid"], external_ids.get("vm_name", ""))

    def absorb_containers(
        self, containers: Iterable[Container], begun_s: float, pause: Callable[[], None]
    ) -> None:
        """Take over a complete list of the VSD containers of this host; `pause` is called now and then, and may switch greenlets.

        What changed since the reading was begun (`begun_s`, from now_s) is newer than the list.
        """
        for count, container in enumerate(containers):
            if count % _PIECE == _PIECE - 1:
                pause()
            if self.is_deleted(container.vsd_id):
                continue
            for interface in container.interfaces[:1]:
                pair = VethPair.of(interface.name)
                if pair is None or interface.address is None:
                    continue  # not made by this driver
                self.take_number(pair)
                endpoint = self._by_vsd.get(container.vsd_id)
                if endpoint is not None and endpoint.subnet_id and endpoint.changed_at >= begun_s:
                    continue
                if endpoint is None:
                    endpoint = self._by_port.get(interface.name)
                    if (
                        endpoint is not None
                        and endpoint.vsd_id
                        and endpoint.vsd_id != container.vsd_id
                    ):
                        continue  # a second container with this port's name: the audit sees it
                if endpoint is None:
                    endpoint = Endpoint(
                        address=interface.address,
                        prefix_len=interface.prefix_len,
                        gateway=str(interface.gateway or ""),
                        mac=interface.mac,
                        pair=pair,
                    )
                    endpoint.is_recovered = True
                self.fill(endpoint, container, interface)
                if endpoint.changed_at:
                    self._index(endpoint)  # seen again is not changed
                else:
                    self.put(endpoint)
        for endpoint in self.all:
            if endpoint.endpoint_id:
                self._by_endpoint.setdefault(endpoint.endpoint_id, endpoint)
        self._is_complete.set()

    @staticmethod
    def fill(endpoint: Endpoint, container: Container, interface: ContainerInterface) -> None:
        """Take over what the VSD says of an endpoint."""
        endpoint.vsd_id, endpoint.uuid, endpoint.name = (
            container.vsd_id,
            container.uuid,
            container.name,
        )
        endpoint.interface_id, endpoint.vport_id, endpoint.subnet_id = (
            interface.vsd_id,
            interface.vport_id,
            interface.subnet_id,
        )
        endpoint.domain_id, endpoint.is_l2, endpoint.place = (
            interface.domain_id,
            interface.is_l2,
            interface.place,
        )
        endpoint.mac = interface.mac or endpoint.mac
