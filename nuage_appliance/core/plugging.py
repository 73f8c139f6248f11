"""An endpoint's port in the VRS: plugged in once, again when it was lost, and taken out.

Owns the ports that were lost and those that could not be taken out yet. Must never plug in what is
leaving.

Plugging in takes several calls, each of which switches greenlets, and meanwhile anything may happen
to the endpoint. Two things keep that in order:

* Whatever builds the endpoint up holds its lock (`Endpoint.lock`): CreateEndpoint, Join, the
  `connect` event, a restore, the audit. The second of two that want the same finds it done.
* What takes it down must not wait for the lock, because Leave has a deadline and a VSD that is away
  may hold the lock for half a minute. It sets `is_leaving` and goes on; whoever holds the lock
  reads the flag before it writes the rows, and again after: then it takes out again what it has
  just put in.

The order in which an endpoint is plugged in is fixed. First the identity on the VSD, because its
policies go by it; then the policy groups, because a container must not send a packet before what
restricts it is in force; then the rows, which are what makes the VRS let packets through.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Fault, Unavailable
from nuage_appliance.core.endpoint import Endpoint
from nuage_appliance.core.endpoint_table import EndpointTable
from nuage_appliance.core.identities import Identities
from nuage_appliance.core.networks import Networks
from nuage_appliance.model import Identity, Place, Pool, PortState, Stage, shorten

if TYPE_CHECKING:
    from nuage_appliance.clients.vrs import Vrs
    from nuage_appliance.clients.vsd import Vsd

_log = logging.getLogger(__name__)

_LEAVE_S = 5.0
_PLACE_S = 2.0
_RESTORE_S = 10.0


class Plugging:
    """The ports of endpoints. A method that does not say otherwise may switch greenlets.

    `end` undoes all of an endpoint that the engine no longer has; it never raises.
    """

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
        self._vsd = vsd
        self._vrs = vrs
        self._networks = networks
        self._table = table
        self._clock = clock
        self._identities = Identities(vsd, table, end)
        # Names of ports that are still to be taken out of the VRS.
        self._undetached: set[str] = set()
        # Names of ports that are to be plugged in again, oldest first; the values mean nothing.
        self._lost: dict[str, None] = {}
        self._lost_changed = threading.Event()

    # -- in ---------------------------------------------------------------------------------------

    def bind(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """Give the endpoint its container's identity on the VSD, then plug it in (vrs §6).

        A container that asks for a policy group is plugged in only when it is in it. Repeating it
        is harmless. Raises Refused, Conflict, NotFound, Unavailable.
        """
        with endpoint.lock:
            if (
                endpoint.is_leaving
                or endpoint.lost_address
                or (endpoint.stage is Stage.ATTACHED and endpoint.identity == identity)
            ):
                return
            if self._is_plugged_already(endpoint, identity):
                endpoint.problem = ""
                endpoint.identity = identity
                endpoint.stage = Stage.ATTACHED
                return
            self._plug(endpoint, identity, deadline)

    def _is_plugged_already(self, endpoint: Endpoint, identity: Identity) -> bool:
        """True when an earlier life of this process did all of it.

        Then the rows are not touched, because traffic passes by them.
        """
        if endpoint.stage is Stage.ATTACHED or not self._vrs.is_ready or not endpoint.endpoint_id:
            return False
        port = self._vrs.port(endpoint.port_name)
        return (
            port is not None
            and port.external_ids.get("vm_name") == identity.name
            and port.fits(endpoint.port_owner(identity.container_id))
        )

    def _plug(self, endpoint: Endpoint, identity: Identity, deadline: Deadline) -> None:
        """The steps of bind, with the endpoint's lock held."""
        started_s = self._clock()
        try:
            self._identities.give(endpoint, identity, deadline)
            self._identities.join_policy_groups(endpoint, identity, deadline)
            if endpoint.is_leaving:
                return
            place = self._place_of(endpoint, deadline)
            self._vrs.attach(endpoint.attachment(identity, place), deadline)
        except Fault as fault:
            if endpoint.problem != fault.message:
                _log.error(
                    "container %s is not plugged: %s",
                    identity.name or identity.container_id[:12],
                    fault.message,
                )
            endpoint.problem = fault.message
            raise
        endpoint.problem = ""
        endpoint.identity = identity
        if endpoint.is_leaving:
            self.detach(endpoint, deadline)
            return
        endpoint.stage = Stage.ATTACHED
        endpoint.attached_at = self._clock()
        # The mirror is never older than the answer: rows that it lacks were taken away again.
        port = self._vrs.port(endpoint.port_name) if self._vrs.is_ready else None
        if port is None or not port.is_complete:
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

    def _place_of(self, endpoint: Endpoint, deadline: Deadline) -> Place:
        """Where the endpoint's subnet is; empty names when nobody knows: traffic does not wait."""
        if endpoint.place is None:
            with contextlib.suppress(Fault):
                return self._pool_of(endpoint, deadline.at_most(_PLACE_S)).place
        return endpoint.place or Place("", "", "", "")

    def find_place(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Find the subnet of an endpoint that is known from its link only: it is its network's.

        Raises Unavailable when nobody knows the network, and what Networks.pool raises.
        """
        pool = self._pool_of(endpoint, deadline)
        endpoint.place = pool.place
        endpoint.is_l2 = pool.place.is_l2
        endpoint.subnet_id = self._networks.subnets.of(pool).vsd_id

    def _pool_of(self, endpoint: Endpoint, deadline: Deadline) -> Pool:
        network = self._networks.look_up(endpoint.network_id, deadline)
        if network is None:
            raise Unavailable(
                f"the engine does not know network {endpoint.network_id[:12]} "
                f"of port {endpoint.port_name}"
            )
        return self._networks.pool(network.pool_id, deadline)

    # -- out --------------------------------------------------------------------------------------

    def detach(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Take the endpoint's port out of the VRS (vrs §7), now or later. Never fails."""
        endpoint.is_leaving = True
        try:
            self._vrs.detach(endpoint.port_name, deadline.at_most(_LEAVE_S))
        except Fault as fault:
            _log.warning("port %s leaves the VRS later: %s", endpoint.port_name, fault.message)
            self._undetached.add(endpoint.port_name)
        endpoint.stage = Stage.LEFT
        endpoint.attached_at = None

    def finish_detaching(self, deadline: Deadline) -> None:
        """Take the ports out of the VRS that could not be taken out before. Raises Unavailable."""
        for port_name in list(self._undetached):
            endpoint = self._table.by_port(port_name)
            if endpoint is None or endpoint.is_leaving:
                self._vrs.detach(port_name, deadline)
            self._undetached.discard(port_name)

    def unplug(self, endpoint: Endpoint, deadline: Deadline) -> None:
        """Take out the port of an endpoint whose address somebody else has now.

        No packet may leave with it. The next audit that finds the address free plugs the port in
        again. Raises Fault.
        """
        endpoint.lost_address = True
        self._vrs.detach(endpoint.port_name, deadline)
        if endpoint.stage is Stage.ATTACHED:
            endpoint.stage = Stage.JOINED

    # -- in again ---------------------------------------------------------------------------------

    def lost(self, port_name: str) -> None:
        """Have the rows of a port of ours put back that went away.

        Does not switch greenlets.
        """
        endpoint = self._table.by_port(port_name)
        if endpoint is not None and endpoint.stage is Stage.ATTACHED and not endpoint.is_leaving:
            endpoint.stage = Stage.JOINED
            self._lost[port_name] = None
            self._lost_changed.set()

    def compare_with_vrs(self, ports: Mapping[str, PortState]) -> None:
        """Note what the VRS's new mirror lacks: it was lost while nobody looked.

        Does not switch greenlets.
        """
        for endpoint in self._table.all:
            port = ports.get(endpoint.port_name)
            if endpoint.stage is Stage.ATTACHED and (port is None or not port.is_complete):
                self.lost(endpoint.port_name)

    def restore_now(self) -> None:
        """End the pause before the next restore: the VRS changed for the better.

        Does not switch greenlets.
        """
        if self._lost:
            self._lost_changed.set()

    def serve_restores(self) -> None:
        """Plug ports in again whose rows were lost. A greenlet; never returns."""
        backoff = Backoff(0.5, 2.0, 10.0)
        while True:
            self._lost_changed.wait()
            self._lost_changed.clear()
            if self._restore_lost():
                backoff.reset()
                continue
            # Not a sleep: what makes it worth another try (a bridge that is back) ends the pause.
            if self._lost_changed.wait(timeout=backoff.next_s()):
                backoff.reset()
            self._lost_changed.set()

    def _restore_lost(self) -> bool:
        """Try every port once; False when one must be tried again."""
        is_done = True
        for port_name in list(self._lost):
            del self._lost[port_name]
            endpoint = self._table.by_port(port_name)
            if endpoint is None or endpoint.identity is None or endpoint.is_leaving:
                continue
            try:
                self.bind(endpoint, endpoint.identity, Deadline(_RESTORE_S, self._clock))
            except Fault:
                self._lost[port_name] = None
                is_done = False
        return is_done

    def plug_again(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """Write the rows of a plugged endpoint anew that somebody changed or took; True.

        Raises as bind.
        """
        port = self._vrs.port(endpoint.port_name)
        if endpoint.stage is not Stage.ATTACHED or endpoint.identity is None:
            return True  # the restores have it
        if port is not None and port.fits(endpoint.port_owner(endpoint.identity.container_id)):
            return True
        _log.warning(
            "the rows of port %s are not as they must be; they are written anew", endpoint.port_name
        )
        endpoint.stage = Stage.JOINED
        self.bind(endpoint, endpoint.identity, deadline)
        return True

    # -- names ------------------------------------------------------------------------------------

    def name_again(self, endpoint: Endpoint, deadline: Deadline) -> bool:
        """Give the VSD's container the name of its Docker container again; True. Raises Fault."""
        with endpoint.lock:
            if (
                endpoint.stage is Stage.ATTACHED
                and endpoint.identity is not None
                and not endpoint.is_leaving
            ):
                self._identities.give(endpoint, endpoint.identity, deadline)
        return True

    def rename(self, container_id: str, name: str, deadline: Deadline) -> None:
        """Write the new name of a Docker container to the VSD and the VRS. Raises Fault."""
        for endpoint in self._table.all:
            identity = endpoint.identity
            if (
                endpoint.stage is Stage.ATTACHED
                and identity is not None
                and identity.container_id == container_id
                and identity.name != name
            ):
                with endpoint.lock:
                    self._rename(endpoint, name, deadline)

    def _rename(self, endpoint: Endpoint, name: str, deadline: Deadline) -> None:
        identity = endpoint.identity
        if identity is None or identity.name == name or endpoint.is_leaving:
            return  # another greenlet did it meanwhile
        self._vsd.update_container(endpoint.vsd_id, deadline, name=name)
        self._vrs.rename(endpoint.port_name, endpoint.uuid, name, deadline)
        endpoint.identity = dataclasses.replace(identity, name=name)
        endpoint.name = name
        _log.info("container %s is now called %s", identity.container_id[:12], shorten(name))

    # -- the controller ---------------------------------------------------------------------------

    def resolved(self, port_name: str, address: str) -> None:
        """Compare the address that the controller gave a port with the VSD's, and log the time.

        `address` is the VRS's text, empty or 0.0.0.0 for none. Does not switch greenlets.
        """
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
