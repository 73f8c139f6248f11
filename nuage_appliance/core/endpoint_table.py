"""The table of this host's endpoints, and what it is read back from after a start.

Owns the records and their indices. Must never drop an endpoint by itself. Nothing here does I/O,
and only wait_complete switches greenlets.

After a start the table is empty, and nothing on disk says what was in it. It is read back from the
links (`absorb_links`, first and once), the VRS's rows (`absorb_ports`) and the VSD's list
(`absorb_containers`); the last two come in either order, and again and again. `recovery` says when
each is read and what only it knows. This is who wins, where two of them differ:

* The link says which endpoint of the engine's a port belongs to; rows fill in only what is empty,
  as after an upgrade from the predecessor, whose links have no alias. They never make an endpoint:
  a port without one is the audit's.
* The VSD says what is its own (ids, subnet, place, MAC), over what the link has. But a list
  takes a while to be read, and this process goes on meanwhile. So `changed_at` protects what is
  newer than the list: an endpoint that changed after the reading had begun is left as it is. To be
  in the list again is no change: else the audit's grace, which counts from `changed_at`, would
  begin anew with every list.
* A list that was begun before does not bring back what this host deletes or deleted (`is_deleted`).
* Nothing is ever removed here because a source does not have it. That takes the audit's evidence.
"""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Unavailable
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.link_numbers import LinkNumbers
from nuage_appliance.model import (
    DELETED_ALIAS,
    Address,
    Container,
    ContainerInterface,
    Identity,
    Link,
    LinkTag,
    PortState,
    Stage,
    VethPair,
)

_REMEMBERED = 20_000
_READING_S = 150.0  # longer than any list of the VSD is read
_PIECE = 100

_Key = TypeVar("_Key")


class EndpointTable:
    """All endpoints, by every name of theirs; `clock` measures `changed_at`, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By bridge port. Every endpoint of the table is in here, so this is the table; the others
        # are indices, in which an endpoint is as soon as it has the name in question.
        self._by_port: dict[str, Endpoint] = {}
        # By the VSD's id of the subnet (or L2 domain) and the address.
        self._by_address: dict[tuple[str, Address], Endpoint] = {}
        # By the engine's id of the endpoint.
        self._by_endpoint: dict[str, Endpoint] = {}
        # By the VSD's id of the container.
        self._by_vsd: dict[str, Endpoint] = {}
        # By the UUID of the VSD container, which is Docker's container id for the first endpoint of
        # a container.
        self._by_uuid: dict[str, Endpoint] = {}
        self.numbers = LinkNumbers()
        # Endpoints that are out of the table, but whose VSD container still has to be deleted, by
        # its id. `Deletions` fills and empties it; unbounded, because to forget one would lose an
        # address.
        self.pending_delete: dict[str, Endpoint] = {}
        # When each VSD container was deleted, by its id, oldest first: kept as long as a list may
        # still be read that was begun before, and at most 20,000.
        self._deleted: collections.OrderedDict[str, float] = collections.OrderedDict()
        self.bridge_mtu = 0
        self.are_ports_read = False
        self._is_complete = threading.Event()
        self._why_incomplete = "the containers of this host were not read from the VSD yet"

    # -- looking up -------------------------------------------------------------------------------

    @property
    def all(self) -> list[Endpoint]:
        """The endpoints, as a list that stays as it is."""
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
        """The endpoint that holds an address in a subnet, under whichever of the subnet's ids."""
        found = (self._by_address.get((subnet_id, address)) for subnet_id in subnet_ids)
        return next((endpoint for endpoint in found if endpoint is not None), None)

    def by_uuid(self, uuid: str) -> Endpoint | None:
        """The endpoint whose VSD container has a UUID."""
        endpoint = self._by_uuid.get(uuid)
        return endpoint if endpoint is not None and endpoint.uuid == uuid else None

    def now_s(self) -> float:
        """The time by which `changed_at` is measured, in seconds."""
        return self._clock()

    def age_s(self, endpoint: Endpoint) -> float:
        """Seconds since an endpoint changed last, in which this process ran."""
        return self._clock() - endpoint.changed_at

    # -- changing ---------------------------------------------------------------------------------

    def put(self, endpoint: Endpoint) -> None:
        """Insert an endpoint, or index it anew after its names changed. It is young again."""
        endpoint.changed_at = self._clock()
        self._index(endpoint)

    def _index(self, endpoint: Endpoint) -> None:
        self._by_port[endpoint.port_name] = endpoint
        self.numbers.keep(endpoint.pair)
        if endpoint.subnet_id:
            self._by_address[endpoint.subnet_id, endpoint.address] = endpoint
        if endpoint.vsd_id:
            self._by_vsd[endpoint.vsd_id] = endpoint
        if endpoint.endpoint_id:
            self._by_endpoint[endpoint.endpoint_id] = endpoint
        if endpoint.uuid:
            self._by_uuid[endpoint.uuid] = endpoint

    def rename(self, endpoint: Endpoint, uuid: str, name: str) -> None:
        """Note that the VSD container of an endpoint has another UUID and name."""
        _remove(self._by_uuid, endpoint.uuid, endpoint)
        endpoint.uuid = uuid
        endpoint.name = name
        endpoint.changed_at = self._clock()
        self._by_uuid[uuid] = endpoint

    def drop(self, endpoint: Endpoint) -> None:
        """Remove an endpoint; its number stays taken until `numbers.free`."""
        _remove(self._by_port, endpoint.port_name, endpoint)
        _remove(self._by_address, (endpoint.subnet_id, endpoint.address), endpoint)
        _remove(self._by_vsd, endpoint.vsd_id, endpoint)
        _remove(self._by_endpoint, endpoint.endpoint_id, endpoint)
        _remove(self._by_uuid, endpoint.uuid, endpoint)

    def forget_endpoint_id(self, endpoint: Endpoint) -> None:
        """Note that the engine no longer has its endpoint; the address may still be reserved."""
        _remove(self._by_endpoint, endpoint.endpoint_id, endpoint)
        endpoint.changed_at = self._clock()

    def move(self, endpoint: Endpoint, pair: VethPair) -> None:
        """Give the endpoint another veth pair; the old number stays taken by something foreign."""
        _remove(self._by_port, endpoint.port_name, endpoint)
        endpoint.pair = pair
        self.put(endpoint)

    def mark_deleted(self, endpoint: Endpoint) -> None:
        """Note that its VSD container is gone: a list that is being read must not bring it back."""
        self.pending_delete.pop(endpoint.vsd_id, None)
        now_s = self._clock()
        self._deleted[endpoint.vsd_id] = now_s
        while (
            len(self._deleted) > _REMEMBERED
            or now_s - next(iter(self._deleted.values())) > _READING_S
        ):
            self._deleted.popitem(last=False)

    def undelete(self, vsd_id: str) -> None:
        """Note that a VSD container is this host's again: a reservation taken over once more."""
        self.pending_delete.pop(vsd_id, None)
        self._deleted.pop(vsd_id, None)

    def is_deleted(self, vsd_id: str) -> bool:
        """True for a VSD container that this host is deleting, or has deleted lately."""
        return vsd_id in self.pending_delete or vsd_id in self._deleted

    # -- recovery ---------------------------------------------------------------------------------

    def wait_complete(self, deadline: Deadline) -> None:
        """Wait until this host's containers were read from the VSD once.

        Raises Unavailable. Switches greenlets.
        """
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
        """Keep why the VSD's list could not be read, for the calls that wait for it."""
        self._why_incomplete = reason

    def absorb_links(self, links: Iterable[Link], bridge: str) -> list[str]:
        """Take over what the host's devices say; call it once, before the first call is served.

        `bridge` is the VRS's. Returns the links that were being deleted when the last life ended.
        """
        half_deleted = []
        for link in links:
            if link.name == bridge:
                self.bridge_mtu = link.mtu
            pair = VethPair.of(link.name)
            if pair is None:
                continue
            self.numbers.take_device(pair)
            is_bridge_port = link.kind == "veth" and link.name == pair.bridge_port
            if is_bridge_port and link.alias == DELETED_ALIAS:
                half_deleted.append(link.name)
            if link.tag is not None and link.name not in self._by_port:
                endpoint = _endpoint_of_link(pair, link.tag)
                if endpoint is not None:
                    self.put(endpoint)
        return half_deleted

    def absorb_ports(self, ports: Mapping[str, PortState]) -> None:
        """Take over what the VRS says, by port name; call it when its mirror became complete."""
        self.are_ports_read = True
        for name, port in ports.items():
            pair = VethPair.of(name)
            if pair is not None:
                self.numbers.take(pair)
            endpoint = self._by_port.get(name)
            if (
                endpoint is not None
                and port.is_complete
                and endpoint.stage in (Stage.JOINED, Stage.CREATED, Stage.RESERVED)
            ):
                self._absorb_port(endpoint, port)

    @staticmethod
    def _absorb_port(endpoint: Endpoint, port: PortState) -> None:
        ids = port.external_ids
        endpoint.stage = Stage.ATTACHED
        endpoint.problem = ""
        endpoint.endpoint_id = endpoint.endpoint_id or ids.get("nuage-endpoint-id", "")
        endpoint.network_id = endpoint.network_id or ids.get("nuage-network-id", "")
        endpoint.uuid = endpoint.uuid or port.entity_uuid
        if endpoint.identity is None and ids.get("vm_uuid"):
            endpoint.identity = Identity(ids["vm_uuid"], ids.get("vm_name", ""))

    def absorb_containers(
        self, containers: Iterable[Container], begun_s: float, pause: Callable[[], None]
    ) -> None:
        """Take over a complete list of the VSD containers of this host.

        `begun_s` is when its reading was begun, from now_s(): what changed since is newer than the
        list. `pause` is called after every 100 containers, and may switch greenlets.
        """
        for count, container in enumerate(containers):
            if count % _PIECE == _PIECE - 1:
                pause()
            if self.is_deleted(container.vsd_id):
                continue
            for interface in container.interfaces[:1]:
                self._absorb_container(container, interface, begun_s)
        for endpoint in self.all:
            if endpoint.endpoint_id:
                self._by_endpoint.setdefault(endpoint.endpoint_id, endpoint)
        self._is_complete.set()

    def _absorb_container(
        self, container: Container, interface: ContainerInterface, begun_s: float
    ) -> None:
        pair = VethPair.of(interface.name)
        if pair is None or interface.address is None:
            return  # not made by this driver
        self.numbers.take(pair)
        endpoint = self._by_vsd.get(container.vsd_id)
        if endpoint is not None and endpoint.subnet_id and endpoint.changed_at >= begun_s:
            return
        if endpoint is None:
            endpoint = self._by_port.get(interface.name)
            if endpoint is not None and endpoint.vsd_id not in ("", container.vsd_id):
                return  # a second container with this port's name: the audit sees it
        if endpoint is None:
            endpoint = Endpoint(
                address=interface.address,
                prefix_len=interface.prefix_len,
                gateway=interface.gateway,
                mac=interface.mac,
                pair=pair,
                is_recovered=True,
            )
        endpoint.fill(container, interface)
        if endpoint.changed_at:
            self._index(endpoint)
        else:
            self.put(endpoint)


def _remove(index: dict[_Key, Endpoint], key: _Key, endpoint: Endpoint) -> None:
    """Take an endpoint out of an index, unless the name is another one's by now."""
    if index.get(key) is endpoint:
        del index[key]


def _endpoint_of_link(pair: VethPair, tag: LinkTag) -> Endpoint | None:
    """The endpoint that a link's alias describes; None when its address cannot be read."""
    try:
        interface = ipaddress.ip_interface(tag.address)
    except ValueError:
        return None
    gateway: Address | None = None
    with contextlib.suppress(ValueError):  # empty, or damaged: the endpoint is ours even so
        gateway = ipaddress.ip_address(tag.gateway)
    return Endpoint(
        address=interface.ip,
        prefix_len=interface.network.prefixlen,
        gateway=gateway,
        mac=tag.mac,
        pair=pair,
        vsd_id=tag.vsd_container_id,
        endpoint_id=tag.endpoint_id,
        network_id=tag.network_id,
        stage=Stage.JOINED,
        has_link=True,
    )
