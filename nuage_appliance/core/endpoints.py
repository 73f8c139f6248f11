"""The life of an endpoint: create, join, bind, leave, delete, release.

Owns the order of these steps and the steps that a neighbour could not take yet. Every teardown succeeds on what is gone
already; what a neighbour cannot do now is done when it is back. Must never touch a device or port of anybody else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.core.addresses import Addresses
from nuage_appliance.core.directory import Directory
from nuage_appliance.core.endpoint_table import Endpoint, EndpointTable
from nuage_appliance.model import (ADDRESS_IN_USE, DUPLICATE, GLOBAL_SPACE, UUID_IN_USE, Address, Attachment, Identity, LinkTag, Pool, PortState, Stage,
                                   Subnet, SubnetPath, shorten)

if TYPE_CHECKING:
    from nuage_appliance.peers.links import Links
    from nuage_appliance.peers.vrs import Vrs
    from nuage_appliance.peers.vsd import Vsd

_log = logging.getLogger(__name__)

_TRIES = 4
_LEAVE_S = 5.0
_WAIT_FOR_LIST_S = 5.0
_RESTORE_S = 10.0
_RELEASE_S = 5.0
_PLACE_S = 2.0
_MOST_LATE = 20_000


class Endpoints:
    """What the engine's calls and events do to endpoints. Every public method but find and resolved may switch greenlets."""

    def __init__(self, vsd: Vsd, vrs: Vrs, links: Links, directory: Directory, table: EndpointTable, addresses: Addresses, *,
                 mtu: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._vsd, self._vrs, self._links, self._directory = vsd, vrs, links, directory
        self._table, self._addresses, self._clock = table, addresses, clock
        self.mtu = mtu
        self._undetached: set[str] = set()
        self._late_releases: list[tuple[Pool, Address]] = []
        self._lost: dict[str, None] = {}
        self._lost_changed = threading.Event()

    def create(self, network_id: str, endpoint_id: str, address: Address, mac: str, deadline: Deadline) -> Endpoint:
        """Make the link of a reserved address. Repeating it is harmless. Undoes its own half on failure.

        `mac` is the one the user asked for, or empty. Raises Refused, Unavailable. Switches greenlets.
        """
        known = self._table.by_endpoint(endpoint_id)
        if known is not None:
            if known.address != address or known.network_id != network_id:
                raise Refused(f"endpoint {endpoint_id[:12]} exists already with the address {known.address}, not {address}")
            return known
        endpoint = self._reservation(network_id, address, deadline)
        with endpoint.lock:
            if endpoint.endpoint_id and endpoint.endpoint_id != endpoint_id:
                raise Refused(f"the address {address} belongs to endpoint {endpoint.endpoint_id[:12]}, which was not deleted")
            if mac and mac != endpoint.mac:
                self._set_mac(endpoint, mac, deadline)
            endpoint.endpoint_id, endpoint.network_id = endpoint_id, network_id
            try:
                self._make_link(endpoint)
            except BaseException:
                self._table.forget_endpoint_id(endpoint)
                endpoint.endpoint_id = endpoint.network_id = ""
                raise
            if self._table.is_over(endpoint.vsd_id):
                self.take_down(endpoint, deadline)
                raise Refused(f"the address {address} was released while its endpoint was made; start the container again")
            endpoint.stage = Stage.CREATED
            self._table.put(endpoint)
        return endpoint

    def _reservation(self, network_id: str, address: Address, deadline: Deadline) -> Endpoint:
        """The endpoint that RequestAddress made for (network, address)."""
        network = self._directory.network(network_id, deadline)
        if network is not None:
            pool = self._directory.pool(network.pool_id, deadline)
            endpoint = self._table.by_address(self._directory.subnet_ids(pool), address)
            if endpoint is None and not self._table.is_complete:
                self._table.wait_complete(deadline)
                endpoint = self._table.by_address(self._directory.subnet_ids(pool), address)
            if endpoint is not None:
                return endpoint
            adopted = self._addresses.adopt(pool, address, deadline)
            if adopted is not None:
                return adopted
            raise Refused(f"the address {address} was not requested from nuage-ipam in the {pool.path}")
        self._table.wait_complete(deadline)
        found = [endpoint for endpoint in self._table.all if endpoint.address == address and not endpoint.endpoint_id
                 and endpoint.stage is Stage.RESERVED]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(f"network {network_id[:12]} is not known and {len(found)} VSD subnets have the address {address} reserved; "
                          "try again when the Docker engine answers")
        raise Refused(f"the address {address} was not requested from nuage-ipam; create network {network_id[:12]} with --ipam-driver=nuage-ipam")

    def _set_mac(self, endpoint: Endpoint, mac: str, deadline: Deadline) -> None:
        """Give the VSD's interface another MAC; where the VSD does not change it, replace the container."""
        try:
            self._vsd.update_interface(endpoint.interface_id, deadline, MAC=mac)
            if self._vsd.interface_mac(endpoint.interface_id, deadline) == mac:
                endpoint.mac = mac
                return
        except (Conflict, Refused) as fault:
            if isinstance(fault, Conflict) and fault.code == DUPLICATE:
                raise Refused(f"the MAC {mac} is in use in this subnet: {fault.message}") from None
            _log.debug("%s", fault.message)
        self._vsd.delete_container(endpoint.vsd_id, deadline)
        try:
            self._create_container(endpoint, mac, deadline)
        except Conflict as conflict:
            raise Refused(f"the MAC {mac} cannot be used: {conflict.message}") from None
        except NotFound as fault:
            raise Refused(f"{fault.message}; start the container again") from None

    def _create_container(self, endpoint: Endpoint, mac: str, deadline: Deadline) -> None:
        """Another VSD container for an endpoint that lost its own, with the same address.

        Raises Conflict, and NotFound when the endpoint was released meanwhile: then nobody else would give the container back.
        """
        lost_id = endpoint.vsd_id
        subnet = Subnet(endpoint.subnet_id, endpoint.path, ipaddress.ip_interface(endpoint.cidr).network, None, endpoint.domain_id)
        container = self._vsd.create_container(
            uuid=self._addresses.new_uuid(), external_id=self._addresses.external_id, port_name=endpoint.port_name, mac=mac,
            subnet=subnet, address=endpoint.address, deadline=deadline)
        if self._table.is_over(lost_id):
            self._addresses.condemn(dataclasses.replace(endpoint, vsd_id=container.vsd_id))
            raise NotFound(f"port {endpoint.port_name} was released meanwhile")
        self._table.drop(endpoint)
        self._table.fill(endpoint, container, container.interfaces[0])
        self._table.put(endpoint)

    def _make_link(self, endpoint: Endpoint) -> None:
        mtu = self.mtu or self._table.bridge_mtu
        tag = LinkTag(endpoint.endpoint_id, endpoint.network_id, endpoint.cidr, endpoint.gateway, endpoint.mac, endpoint.vsd_id)
        offload = not (self._vrs.is_ready and self._vrs.needs_software_checksum)
        for attempt in range(_TRIES):
            try:
                self._links.create(endpoint.pair, tag.to_alias(), mtu, endpoint.mac, offload)
                endpoint.has_link = True
                return
            except Conflict:
                # Somebody made a device of that name meanwhile; it is not ours to touch, so take another number.
                _log.warning("the device name %s is taken; using another one", endpoint.port_name)
                self._table.move(endpoint, self._table.next_pair())
        raise Unavailable("no free device name was found for the veth pair")

    def join(self, network_id: str, endpoint_id: str, deadline: Deadline) -> Endpoint:
        """Make sure that the entity port is there for the engine to take. Raises Refused for an unknown endpoint. Switches."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is None:
            raise Refused(f"endpoint {endpoint_id[:12]} was not created by this driver on this host; start the container again")
        with endpoint.lock:
            if endpoint.is_leaving:
                raise Refused(f"endpoint {endpoint_id[:12]} is being deleted; start the container again")
            if not endpoint.has_link or (endpoint.stage is not Stage.CREATED and not self._links.exists(endpoint.pair.entity_port)):
                self._make_link(endpoint)
            if endpoint.stage is Stage.CREATED:
                endpoint.stage = Stage.JOINED
        return endpoint

    def leave(self, endpoint_id: str, deadline: Deadline) -> None:
        """Take the endpoint's port out of the VRS. Success for what is unknown or gone. Switches greenlets."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            self._detach(endpoint, deadline)

    def _detach(self, endpoint: Endpoint, deadline: Deadline) -> None:
        endpoint.is_leaving = True
        try:
            self._vrs.detach(endpoint.port_name, Deadline(deadline.bound(_LEAVE_S), self._clock))
        except Fault as fault:
            _log.warning("port %s leaves the VRS later: %s", endpoint.port_name, fault.message)
            self._undetached.add(endpoint.port_name)
        endpoint.stage, endpoint.attached_at = Stage.LEFT, None

    def delete(self, endpoint_id: str, deadline: Deadline) -> None:
        """Delete the endpoint's link. Success for what is unknown or gone. Switches greenlets."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            self.take_down(endpoint, deadline)

    def take_down(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Unplug an endpoint and delete its link; what a neighbour cannot do now is done later. Never fails."""
        if endpoint.stage is not Stage.LEFT and (endpoint.stage is not Stage.RESERVED or endpoint.has_link):
            self._detach(endpoint, deadline)
        endpoint.is_leaving = True
        if not endpoint.is_unlinked and (endpoint.has_link or endpoint.stage is not Stage.RESERVED):
            try:
                self._links.delete_later(endpoint.port_name, lambda pair=endpoint.pair: self._table.free_number(pair))
                endpoint.has_link, endpoint.is_unlinked = False, True
            except Fault as fault:
                _log.warning("the link %s is deleted later: %s", endpoint.port_name, fault.message)
        self._table.forget_endpoint_id(endpoint)

    def release(self, pool: Pool, address: Address, deadline: Deadline) -> None:
        """Give an address back, taking down whatever an endpoint left behind. Never fails for the caller. Switches."""
        if pool.space == GLOBAL_SPACE and self._release_for_swarm(pool, address, deadline):
            return
        endpoint = self._holder(pool, address)
        if endpoint is None and not self._table.is_complete:
            endpoint = self._unread_holder(pool, address, deadline)
        elif endpoint is None:
            endpoint = self._untabled_holder(pool, address, deadline)
        if endpoint is None:
            _log.debug("%s of %s is not in use on this host", address, pool.path)
            return
        self.take_down(endpoint, deadline)
        self._addresses.condemn(endpoint)
        self._addresses.finish(endpoint, Deadline(deadline.bound(_RELEASE_S), self._clock))

    def _release_for_swarm(self, pool: Pool, address: Address, deadline: Deadline) -> bool:
        """True when the address was a swarm manager's reservation: then the endpoint, here or elsewhere, is not touched."""
        endpoint = self._holder(pool, address)
        network = self._directory.networks.get(endpoint.network_id) if endpoint is not None else None
        try:
            if self._addresses.reservations.release(pool, address, Deadline(deadline.bound(_RELEASE_S), self._clock)):
                return True
        except Fault as fault:
            _log.warning("whether %s of %s was reserved for swarm is not known yet: %s", address, pool.path, fault.message)
            if network is None or network.pool_id != pool.pool_id:
                self._addresses.reservations.release_later(pool, address)
        return network is not None and network.pool_id != pool.pool_id

    def _holder(self, pool: Pool, address: Address) -> Endpoint | None:
        endpoint = self._table.by_address(self._directory.subnet_ids(pool), address)
        if endpoint is not None:
            return endpoint
        for endpoint in self._table.all:  # known from its link only, while the VSD was not read yet
            if not endpoint.subnet_id and endpoint.address == address:
                network = self._directory.networks.get(endpoint.network_id)
                if network is not None and network.pool_id == pool.pool_id:
                    return endpoint
        return None

    def _unread_holder(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """After a start with the VSD away: remember the release; the VSD's list decides what it meant once it is read."""
        try:
            self._table.wait_complete(Deadline(deadline.bound(_WAIT_FOR_LIST_S), self._clock))
        except Unavailable as fault:
            _log.warning("%s of %s is released once the VSD answers: %s", address, pool.path, fault.message)
            if len(self._late_releases) >= _MOST_LATE:
                raise Unavailable(f"{_MOST_LATE} addresses wait to be released already; {fault.message}") from None
            self._late_releases.append((pool, address))
            return None
        return self._holder(pool, address)

    def _untabled_holder(self, pool: Pool, address: Address, deadline: Deadline) -> Endpoint | None:
        """A container of this host that a list of the VSD did not show, because others came and went while it was read."""
        if not self._vsd.is_up:
            return None
        try:
            return self._addresses.adopt(pool, address, Deadline(deadline.bound(_RELEASE_S), self._clock))
        except Fault as fault:
            _log.warning("whether the VSD still has %s of %s is not known: %s", address, pool.path, fault.message)
            return None

    def finish_late_releases(self, deadline: Deadline) -> None:
        """Carry out the releases that came before the VSD's list was read."""
        while self._late_releases:
            pool, address = self._late_releases.pop()
            self.release(pool, address, deadline)

    def finish_detaching(self, deadline: Deadline) -> None:
        """Take the ports out of the VRS that could not be taken out before; raises Unavailable."""
        for port_name in list(self._undetached):
            endpoint = self._table.by_port(port_name)
            if endpoint is None or endpoint.is_leaving:
                self._vrs.detach(port_name, deadline)
            self._undetached.discard(port_name)

    def bind(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """Give the endpoint its container's identity on the VSD, then plug it into the VRS in one transaction.

        A container that asks for a policy group is plugged only when it is in it. Raises Refused, Conflict, NotFound,
        Unavailable; repeating it is harmless. Switches greenlets.
        """
        with endpoint.lock:
            if endpoint.is_leaving or endpoint.lost_address or (endpoint.stage is Stage.ATTACHED and endpoint.identity == identity):
                return
            if self._is_plugged_already(endpoint, identity):
                endpoint.problem, endpoint.identity, endpoint.stage = "", identity, Stage.ATTACHED
                return
            started_s = self._clock()
            try:
                self._identify(endpoint, identity, deadline)
                self._join_policy_groups(endpoint, identity, deadline)
                if endpoint.is_leaving:
                    return
                if endpoint.path is None:  # the rows tell whose it is; but traffic does not wait for that
                    with contextlib.suppress(Fault):
                        self._find_place(endpoint, Deadline(deadline.bound(_PLACE_S), self._clock))
                self._vrs.attach(self._attachment(endpoint, identity), deadline)
            except Fault as fault:
                if endpoint.problem != fault.message:
                    _log.error("container %s is not plugged: %s", identity.name or identity.container_id[:12], fault.message)
                endpoint.problem = fault.message
                raise
            endpoint.problem, endpoint.identity = "", identity
            if endpoint.is_leaving:  # the engine let it go meanwhile
                self._detach(endpoint, deadline)
                return
            endpoint.stage, endpoint.attached_at = Stage.ATTACHED, self._clock()
            port = self._vrs.port(endpoint.port_name) if self._vrs.is_ready else None
            if port is None or not port.is_complete:  # the mirror is never older than the answer: somebody took it away again
                self.lost(endpoint.port_name)
            _log.info("plugged container %s (%s) with %s and MAC %s as port %s in %.0f ms", identity.name, identity.container_id[:12],
                      endpoint.cidr, endpoint.mac, endpoint.port_name, (endpoint.attached_at - started_s) * 1000)

    def _is_plugged_already(self, endpoint: Endpoint, identity: Identity) -> bool:
        """True when an earlier life of this process did all of it: then the rows are not touched, because traffic passes them."""
        if endpoint.stage is Stage.ATTACHED or not self._vrs.is_ready or not endpoint.endpoint_id:
            return False
        port = self._vrs.port(endpoint.port_name)
        return (port is not None and port.external_ids.get("vm_name") == identity.name
                and port.fits(endpoint.mac, endpoint.uuid, identity.container_id, endpoint.endpoint_id, endpoint.vsd_id))

    def _identify(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """The first endpoint of a container bears its id; VSD UUIDs are unique, so further ones keep their own (§11.6)."""
        bearer = self._table.bearer(identity.container_id)
        if bearer is not None and bearer is not endpoint and bearer.network_id == endpoint.network_id and not bearer.is_leaving:
            # A container has one endpoint on a network: a power cut left the other one.
            _log.warning("port %s with %s was left behind by container %s, which has port %s now; it is taken down", bearer.port_name, bearer.cidr,
                         identity.name or identity.container_id[:12], endpoint.port_name)
            self.end(bearer, deadline)
        attributes = {"name": identity.name or identity.container_id}
        if identity.orchestration_id:
            attributes["orchestrationID"] = identity.orchestration_id
        if self._table.bearer(identity.container_id) in (None, endpoint) and endpoint.uuid != identity.container_id:
            attributes["UUID"] = identity.container_id
        try:
            self._vsd.update_container(endpoint.vsd_id, deadline, **attributes)
        except Conflict as conflict:
            if conflict.code != UUID_IN_USE or "UUID" not in attributes:
                raise
            del attributes["UUID"]
            self._vsd.update_container(endpoint.vsd_id, deadline, **attributes)
        self._table.rename(endpoint, attributes.get("UUID", endpoint.uuid), attributes["name"])

    def _join_policy_groups(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        if not identity.policy_groups:
            return
        groups = [self._vsd.find_policy_group(name, endpoint.domain_id, endpoint.is_l2, deadline) for name in identity.policy_groups]
        self._vsd.add_policy_groups(endpoint.vport_id, groups, deadline)

    def _attachment(self, endpoint: Endpoint, identity: Identity) -> Attachment:
        path = endpoint.path or SubnetPath("", "", "", "")
        ids = {"vm_uuid": identity.container_id, "vm_name": identity.name, "NUAGE-ENTERPRISE": path.organization,
               "NUAGE-DOMAIN": path.domain, "NUAGE-ZONE": path.zone, "NUAGE-NETWORK": path.subnet,
               "nuage-endpoint-id": endpoint.endpoint_id, "nuage-network-id": endpoint.network_id,
               "nuage-vsd-container-id": endpoint.vsd_id, "nuage-address": endpoint.cidr}
        return Attachment(endpoint.port_name, endpoint.uuid, identity.name or identity.container_id, endpoint.mac, tuple(ids.items()))

    def lost(self, port_name: str) -> None:
        """Rows of a port of ours went away in the VRS; serve_restores puts them back. Does not switch greenlets."""
        endpoint = self._table.by_port(port_name)
        if endpoint is not None and endpoint.stage is Stage.ATTACHED and not endpoint.is_leaving:
            endpoint.stage = Stage.JOINED
            self._lost[port_name] = None
            self._lost_changed.set()

    def compare_with_vrs(self, ports: dict[str, PortState]) -> None:
        """The VRS's mirror is new: whatever it lacks was lost while nobody looked. Does not switch greenlets."""
        for endpoint in self._table.all:
            port = ports.get(endpoint.port_name)
            if endpoint.stage is Stage.ATTACHED and (port is None or not port.is_complete):
                self.lost(endpoint.port_name)

    def serve_restores(self) -> None:
        """The greenlet that plugs ports in again whose rows were lost; never returns."""
        backoff = Backoff(0.5, 2.0, 10.0)
        while True:
            self._lost_changed.wait()
            self._lost_changed.clear()
            failed = False
            for port_name in list(self._lost):
                del self._lost[port_name]
                endpoint = self._table.by_port(port_name)
                if endpoint is None or endpoint.identity is None or endpoint.is_leaving:
                    continue
                try:
                    self.bind(endpoint, endpoint.identity, Deadline(_RESTORE_S, self._clock))
                except Fault:
                    self._lost[port_name] = None
                    failed = True
            if failed:
                # Not a sleep: what makes it worth another try (a bridge that is back) ends the pause.
                if self._lost_changed.wait(timeout=backoff.next_s()):
                    backoff.reset()
                self._lost_changed.set()
            else:
                backoff.reset()

    def restore_now(self) -> None:
        """The VRS changed for the better: do not wait with restoring what was lost."""
        if self._lost:
            self._lost_changed.set()

    @property
    def is_everything_read(self) -> bool:
        """True when this host's VSD containers and the VRS's ports were taken over, and the VRS's mirror is complete."""
        return self._table.is_complete and self._table.are_ports_read and self._vrs.is_ready

    def of_container(self, network_id: str, container_id: str) -> list[Endpoint]:
        """The endpoints of a container on a network, also such as are known from the VSD only. Does not switch greenlets."""
        subnets = self._directory.subnet_ids_of(network_id)
        found = []
        for endpoint in self._table.all:
            owner = endpoint.identity.container_id if endpoint.identity is not None else endpoint.uuid
            if owner == container_id and not endpoint.is_leaving:
                if endpoint.network_id == network_id or (not endpoint.network_id and endpoint.subnet_id in subnets):
                    found.append(endpoint)
        return found

    def end(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """The engine has the endpoint no more and will not say so: undo all of it. Never fails. Switches greenlets."""
        self.take_down(endpoint, deadline)
        self._addresses.condemn(endpoint)
        self._addresses.finish(endpoint, Deadline(deadline.bound(_RELEASE_S), self._clock))

    def recover_container(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """The VSD's list lacks the container of a running endpoint: claim it back, or create it with the same address and MAC.

        Raises Refused when the VSD gave the address away meanwhile. Switches greenlets.
        """
        with endpoint.lock:
            if endpoint.is_leaving:
                return True
            if endpoint.path is None:
                self._find_place(endpoint, deadline)
            try:
                container = self._vsd.get_container(endpoint.vsd_id, deadline)
            except NotFound:
                pass
            else:
                # The link on this host names it, so it is ours, under the id that the host had before (another system id).
                if container.external_id != self._addresses.external_id:
                    _log.warning("container %s of port %s bore the host id %s on the VSD; it is labelled %s now", endpoint.vsd_id,
                                 endpoint.port_name, shorten(container.external_id), self._addresses.external_id)
                    self._vsd.update_container(endpoint.vsd_id, deadline, externalID=self._addresses.external_id)
                if self._table.is_over(endpoint.vsd_id):
                    return True  # released meanwhile: the table must not have it again
                for interface in container.interfaces[:1]:
                    self._table.fill(endpoint, container, interface)
                    self._table.put(endpoint)
                return True
            if endpoint.is_leaving:
                return True
            if not endpoint.lost_address:
                _log.warning("the VSD lost the container of port %s (%s); it is created again", endpoint.port_name, endpoint.cidr)
            try:
                self._create_container(endpoint, endpoint.mac, deadline)
            except NotFound:
                return True
            except Conflict as conflict:
                endpoint.problem = f"the VSD does not give {endpoint.address} back to port {endpoint.port_name}, which is unplugged: {conflict.message}"
                if conflict.code == ADDRESS_IN_USE:
                    self._unplug(endpoint, deadline)
                raise Refused(endpoint.problem, conflict.code) from None
            endpoint.lost_address = False
            if endpoint.stage is Stage.ATTACHED:
                endpoint.stage = Stage.JOINED
        if endpoint.identity is not None:
            self.bind(endpoint, endpoint.identity, deadline)
        return True

    def _unplug(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Somebody else has the address now: no packet may leave with it. The next look that finds it free plugs the port again."""
        endpoint.lost_address = True
        self._vrs.detach(endpoint.port_name, deadline)
        if endpoint.stage is Stage.ATTACHED:
            endpoint.stage = Stage.JOINED

    def _find_place(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """An endpoint that is known from its link only: its subnet is its network's. Raises Unavailable when nobody knows that."""
        network = self._directory.network(endpoint.network_id, deadline)
        if network is None:
            raise Unavailable(f"network {endpoint.network_id[:12]} of port {endpoint.port_name} is not known to the engine")
        pool = self._directory.pool(network.pool_id, deadline)
        endpoint.path, endpoint.is_l2, endpoint.subnet_id = pool.path, pool.path.is_l2, self._directory.subnet(pool).vsd_id

    def plug_again(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """Somebody changed or took the rows of a plugged endpoint: write them anew. Raises as bind. Switches greenlets."""
        port = self._vrs.port(endpoint.port_name)
        if endpoint.stage is not Stage.ATTACHED or endpoint.identity is None:
            return True  # the restores have it
        if port is not None and port.fits(endpoint.mac, endpoint.uuid, endpoint.identity.container_id, endpoint.endpoint_id, endpoint.vsd_id):
            return True
        _log.warning("the rows of port %s are not as they must be; they are written anew", endpoint.port_name)
        endpoint.stage = Stage.JOINED
        self.bind(endpoint, endpoint.identity, deadline)
        return True

    def name_again(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """The VSD's container does not bear the name of its Docker container: tell the VSD. Switches greenlets."""
        with endpoint.lock:
            if endpoint.stage is not Stage.ATTACHED or endpoint.identity is None or endpoint.is_leaving:
                return True
            self._identify(endpoint, endpoint.identity, deadline)
        return True

    def find(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint with an id of the engine's."""
        return self._table.by_endpoint(endpoint_id)

    def adopt(self, network_id: str, endpoint_id: str, address: Address, deadline: Deadline) -> Endpoint | None:
        """The endpoint of a running container, also one whose id the table does not have yet (an upgrade). Switches."""
        endpoint = self._table.by_endpoint(endpoint_id)
        if endpoint is not None:
            return endpoint
        network = self._directory.network(network_id, deadline)
        if network is None:
            return None
        pool = self._directory.pool(network.pool_id, deadline)
        endpoint = self._table.by_address(self._directory.subnet_ids(pool), address)
        if endpoint is None or endpoint.is_leaving or endpoint.endpoint_id not in ("", endpoint_id):
            return None
        endpoint.endpoint_id, endpoint.network_id = endpoint_id, network_id
        self._table.put(endpoint)
        return endpoint

    def rename(self, container_id: str, name: str, deadline: Deadline) -> None:
        """A container got another name: tell the VSD and the VRS. Switches greenlets."""
        for endpoint in self._table.all:
            identity = endpoint.identity
            if identity is None or identity.container_id != container_id or identity.name == name or endpoint.stage is not Stage.ATTACHED:
                continue
            with endpoint.lock:
                identity = endpoint.identity
                if identity is None or identity.name == name or endpoint.is_leaving:
                    continue  # another greenlet did it meanwhile
                self._vsd.update_container(endpoint.vsd_id, deadline, name=name)
                self._vrs.rename(endpoint.port_name, endpoint.uuid, name, deadline)
                endpoint.identity, endpoint.name = dataclasses.replace(identity, name=name), name
                _log.info("container %s is now called %s", container_id[:12], shorten(name))

    def resolved(self, port_name: str, address: str) -> None:
        """The controller resolved a port: compare with the VSD's address and log the time. Does not switch greenlets."""
        endpoint = self._table.by_port(port_name)
        if endpoint is None or address in ("", "0.0.0.0"):
            return
        if address != str(endpoint.address):
            _log.error("port %s was resolved to %s, but the VSD gave it %s; check the VSC", port_name, address, endpoint.address)
        elif endpoint.attached_at is not None:
            _log.info("port %s was resolved to %s %.0f ms after it was plugged", port_name, address, (self._clock() - endpoint.attached_at) * 1000)
