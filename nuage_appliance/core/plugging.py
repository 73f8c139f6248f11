"""An endpoint's identity on the VSD and its port in the VRS: plugged in once, again when it was lost, and taken out.

Owns the ports that were lost and those that could not be taken out yet. Must never plug in what is leaving.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, Unavailable
from nuage_appliance.core.endpoint_table import Endpoint, EndpointTable
from nuage_appliance.core.networks import Networks
from nuage_appliance.model import (
    UUID_IN_USE,
    Attachment,
    Identity,
    Pool,
    PortState,
    Stage,
    Place,
    shorten,
)

if TYPE_CHECKING:
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_LEAVE_S = 5.0
_PLACE_S = 2.0
_RESTORE_S = 10.0


class Plugging:
    """Ports and whose they are. Every public method but lost, compare_with_vrs, restore_now and resolved may switch greenlets."""

    def __init__(
        self,
        vsd: Vsd,
        vrs: Vrs,
        networks: Networks,
        table: EndpointTable,
        end: Callable[[Endpoint, Deadline], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`end` undoes all of an endpoint that the engine has no more; never raises."""
        self._vsd, self._vrs, self._networks, self._table, self._end, self._clock = (
            vsd,
            vrs,
            networks,
            table,
            end,
            clock,
        )
        self._undetached: set[str] = set()
        self._lost: dict[str, None] = {}
        self._lost_changed = threading.Event()

    def bind(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """Give the endpoint its container's identity on the VSD, then plug it into the VRS in one transaction.

        A container that asks for a policy group is plugged only when it is in it. Raises Refused, Conflict, NotFound,
        Unavailable; repeating it is harmless. Switches greenlets.
        """
        with endpoint.lock:
            if (
                endpoint.is_leaving
                or endpoint.lost_address
                or (endpoint.stage is Stage.ATTACHED and endpoint.identity == identity)
            ):
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
                self._vrs.attach(self._attachment(endpoint, identity, deadline), deadline)
            except Fault as fault:
                if endpoint.problem != fault.message:
                    _log.error(
                        "container %s is not plugged: %s",
                        identity.name or identity.container_id[:12],
                        fault.message,
                    )
                endpoint.problem = fault.message
                raise
            endpoint.problem, endpoint.identity = "", identity
            if endpoint.is_leaving:  # the engine let it go meanwhile
                self.detach(endpoint, deadline)
                return
            endpoint.stage, endpoint.attached_at = Stage.ATTACHED, self._clock()
            port = self._vrs.port(endpoint.port_name) if self._vrs.is_ready else None
            if (
                port is None or not port.is_complete
            ):  # the mirror is never older than the answer: somebody took it away again
                self.lost(endpoint.port_name)
            _log.info(
                "plugged container %s (%s) with %s and MAC %s as port %s in %.0f ms",
                identity.name,
                identity.container_id[:12],
                endpoint.interface,
                endpoint.mac,
                endpoint.port_name,
                (endpoint.attached_at - started_s) * 1000,
            )

    def _is_plugged_already(self, endpoint: Endpoint, identity: Identity) -> bool:
        """True when an earlier life of this process did all of it: then the rows are not touched, because traffic passes them."""
        if endpoint.stage is Stage.ATTACHED or not self._vrs.is_ready or not endpoint.endpoint_id:
            return False
        port = self._vrs.port(endpoint.port_name)
        return (
            port is not None
            and port.external_ids.get("vm_name") == identity.name
            and port.fits(
                endpoint.mac,
                endpoint.uuid,
                identity.container_id,
                endpoint.endpoint_id,
                endpoint.vsd_id,
            )
        )

    def _identify(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """The first endpoint of a container bears its id; VSD UUIDs are unique, so further ones keep their own (vsd §11.6)."""
        other = self._table.by_uuid(identity.container_id)
        if (
            other is not None
            and other is not endpoint
            and other.network_id == endpoint.network_id
            and not other.is_leaving
        ):
            # A container has one endpoint on a network: a power cut left the other one.
            _log.warning(
                "port %s with %s was left behind by container %s, which has port %s now; it is taken down",
                other.port_name,
                other.interface,
                identity.name or identity.container_id[:12],
                endpoint.port_name,
            )
            self._end(other, deadline)
        attributes = {"name": identity.name or identity.container_id}
        if identity.orchestration_id:
            attributes["orchestrationID"] = identity.orchestration_id
        if (
            self._table.by_uuid(identity.container_id) in (None, endpoint)
            and endpoint.uuid != identity.container_id
        ):
            attributes["UUID"] = identity.container_id
        try:
            self._vsd.update_container(endpoint.vsd_id, deadline, **attributes)
        except Conflict as conflict:
            if conflict.code != UUID_IN_USE or "UUID" not in attributes:
                raise
            del attributes["UUID"]
            self._vsd.update_container(endpoint.vsd_id, deadline, **attributes)
        self._table.rename(endpoint, attributes.get("UUID", endpoint.uuid), attributes["name"])

    def _join_policy_groups(
        self, endpoint: Endpoint, identity: Identity, deadline: Deadline
    ) -> None:
        if not identity.policy_groups:
            return
        groups = [
            self._vsd.find_policy_group(name, endpoint.domain_id, endpoint.is_l2, deadline)
            for name in identity.policy_groups
        ]
        self._vsd.add_policy_groups(endpoint.vport_id, groups, deadline)

    def _attachment(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> Attachment:
        place = endpoint.place
        if place is None:  # the rows tell whose the port is; but traffic does not wait for that
            with contextlib.suppress(Fault):
                place = self._pool_of(
                    endpoint, Deadline(deadline.bound(_PLACE_S), self._clock)
                ).place
        place = place or Place("", "", "", "")
        ids = {
            "vm_uuid": identity.container_id,
            "vm_name": identity.name,
            "NUAGE-ENTERPRISE": place.organization,
            "NUAGE-DOMAIN": place.domain,
            "NUAGE-ZONE": place.zone,
            "NUAGE-NETWORK": place.subnet,
            "nuage-endpoint-id": endpoint.endpoint_id,
            "nuage-network-id": endpoint.network_id,
            "nuage-vsd-container-id": endpoint.vsd_id,
            "nuage-address": str(endpoint.interface),
        }
        return Attachment(
            endpoint.port_name,
            endpoint.uuid,
            identity.name or identity.container_id,
            endpoint.mac,
            tuple(ids.items()),
        )

    def find_place(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """An endpoint that is known from its link only: its subnet is its network's. Raises Unavailable when nobody knows that."""
        pool = self._pool_of(endpoint, deadline)
        endpoint.place, endpoint.is_l2, endpoint.subnet_id = (
            pool.place,
            pool.place.is_l2,
            self._networks.subnet(pool).vsd_id,
        )

    def _pool_of(self, endpoint: Endpoint, deadline: Deadline) -> Pool:
        network = self._networks.network(endpoint.network_id, deadline)
        if network is None:
            raise Unavailable(
                f"network {endpoint.network_id[:12]} of port {endpoint.port_name} is not known to the engine"
            )
        return self._networks.pool(network.pool_id, deadline)

    def detach(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Take the endpoint's port out of the VRS; what the VRS cannot do now is done later. Never fails. Switches greenlets."""
        endpoint.is_leaving = True
        try:
            self._vrs.detach(endpoint.port_name, Deadline(deadline.bound(_LEAVE_S), self._clock))
        except Fault as fault:
            _log.warning("port %s leaves the VRS later: %s", endpoint.port_name, fault.message)
            self._undetached.add(endpoint.port_name)
        endpoint.stage, endpoint.attached_at = Stage.LEFT, None

    def finish_detaching(self, deadline: Deadline) -> None:
        """Take the ports out of the VRS that could not be taken out before; raises Unavailable."""
        for port_name in list(self._undetached):
            endpoint = self._table.by_port(port_name)
            if endpoint is None or endpoint.is_leaving:
                self._vrs.detach(port_name, deadline)
            self._undetached.discard(port_name)

    def unplug(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Somebody else has the address now: no packet may leave with it. The next look that finds it free plugs the port again."""
        endpoint.lost_address = True
        self._vrs.detach(endpoint.port_name, deadline)
        if endpoint.stage is Stage.ATTACHED:
            endpoint.stage = Stage.JOINED

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

    def plug_again(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """Somebody changed or took the rows of a plugged endpoint: write them anew. Raises as bind. Switches greenlets."""
        port = self._vrs.port(endpoint.port_name)
        if endpoint.stage is not Stage.ATTACHED or endpoint.identity is None:
            return True  # the restores have it
        if port is not None and port.fits(
            endpoint.mac,
            endpoint.uuid,
            endpoint.identity.container_id,
            endpoint.endpoint_id,
            endpoint.vsd_id,
        ):
            return True
        _log.warning(
            "the rows of port %s are not as they must be; they are written anew", endpoint.port_name
        )
        endpoint.stage = Stage.JOINED
        self.bind(endpoint, endpoint.identity, deadline)
        return True

    def name_again(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """The VSD's container does not bear the name of its Docker container: tell the VSD. Switches greenlets."""
        with endpoint.lock:
            if (
                endpoint.stage is not Stage.ATTACHED
                or endpoint.identity is None
                or endpoint.is_leaving
            ):
                return True
            self._identify(endpoint, endpoint.identity, deadline)
        return True

    def rename(self, container_id: str, name: str, deadline: Deadline) -> None:
        """A container got another name: tell the VSD and the VRS. Switches greenlets."""
        for endpoint in self._table.all:
            identity = endpoint.identity
            if (
                identity is None
                or identity.container_id != container_id
                or identity.name == name
                or endpoint.stage is not Stage.ATTACHED
            ):
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
            _log.error(
                "port %s was resolved to %s, but the VSD gave it %s; check the VSC",
                port_name,
                address,
                endpoint.address,
            )
        elif endpoint.attached_at is not None:
            _log.info(
                "port %s was resolved to %s %.0f ms after it was plugged",
                port_name,
                address,
                (self._clock() - endpoint.attached_at) * 1000,
            )
