"""The VRS: keeps a mirror of its OVSDB by monitors, and makes each change as one transaction.

Owns the connection and the mirror. Must never touch a port, row or bridge key that is not this
driver's (`nln…-1`, `nuage-network-…`), and answers from the mirror only while it is complete.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event

from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Fault, NotFound, Refused, Unavailable
from nuage_appliance.base.yielding import in_batches
from nuage_appliance.clients import vrs_operations as operations
from nuage_appliance.clients.ovsdb import Connection
from nuage_appliance.clients.vrs_mirror import COLUMNS, TAG, Mirror, SystemId
from nuage_appliance.model import Attachment, Network, PortState, VethPair

_log = logging.getLogger(__name__)

_DATABASE = "Open_vSwitch"
_CALL_S, _READ_S = 5.0, 30.0
_ROWS_BATCH, _PORTS_BATCH, _CALLS_BATCH = 500, 200, 50
_CONFLICTS = ("constraint violation", "timed out", "referential integrity violation")


class Vrs:
    """The VRS of this host, at `remote`, with the bridge that ports are plugged into.

    Callbacks, to be set before serve() runs: `on_port(port name, address)` when the VRS resolved a
    port, `on_lost(port name)` when rows of a port went away, and `on_ready()` when the mirror is
    complete or the bridge lost tags. `on_port` may switch greenlets; the others must not.
    """

    def __init__(
        self, remote: str, bridge: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._remote = remote
        self._bridge_name = bridge
        self._clock = clock
        self._connection: Connection | None = None
        self._mirror = Mirror(bridge)
        self._ready = gevent.event.Event()
        self._problem = f"the OVSDB at {remote} was not reached yet"
        self._forgotten: set[str] = set()  # tags that this driver itself is taking away
        self.on_port: Callable[[str, str], None] = lambda port_name, address: None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_lost: Callable[[str], None] = lambda port_name: None

    # -- the stream -------------------------------------------------------------------------------

    def serve(self) -> None:
        """The greenlet that keeps the mirror; connects again for ever, never returns."""
        backoff = Backoff(first_s=0.1, cap_s=2.0)
        while True:
            reader = None
            try:
                self._connection = Connection(self._remote, self._update)
                reader = gevent.spawn(self._read, self._connection)
                self._register(self._connection)
                backoff.reset()
                _log.info("connected to the VRS at %s", self._remote)
                reader.join()
            except Fault as fault:
                self._report(fault.message)
            finally:
                self._ready.clear()
                if reader is not None:
                    reader.kill()  # before the socket is closed under it
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
            gevent.sleep(backoff.next_s())

    def _read(self, connection: Connection) -> None:
        try:
            connection.serve()
        except Unavailable as fault:
            self._report(fault.message)

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("%s", problem)
        self._problem = problem

    def _register(self, connection: Connection) -> None:
        """Start a new mirror and monitor each table; raises Unavailable."""
        self._mirror = Mirror(self._bridge_name)
        for table, columns in COLUMNS.items():
            try:
                initial = connection.request(
                    "monitor",
                    [_DATABASE, table, {table: [{"columns": columns}]}],
                    Deadline(_READ_S, self._clock),
                )
            except Unavailable as fault:
                if table.startswith("Nuage_"):
                    raise Unavailable(
                        f"{fault.message}; it has no usable table {table}, so it is not a Nuage VRS"
                    ) from None
                raise
            for uuid, change in in_batches(initial.get(table, {}).items(), _ROWS_BATCH):
                self._mirror.put_initial(table, uuid, change["new"])
        self._problem = ""
        self._ready.set()
        self.on_ready()

    def _update(self, params: list[Any]) -> None:
        """Take over an update; the callbacks come after it, when the mirror is whole again."""
        tags_before = self._mirror.tags()
        changes = self._mirror.update(params[1])
        tags = self._mirror.tags()
        for port_name in changes.lost:
            self.on_lost(port_name)
        # The bridge is new, or lost tags: what it lacks can be written again.
        if (
            tags is not None
            and self._ready.is_set()
            and (tags_before is None or tags_before - tags - self._forgotten)
        ):
            self.on_ready()
        for port_name, address in in_batches(changes.resolved, _CALLS_BATCH):
            self.on_port(port_name, address)

    # -- what the mirror says ---------------------------------------------------------------------

    @property
    def problem(self) -> str:
        """Why the VRS cannot be used now, or an empty text."""
        if self._ready.is_set() and not self._mirror.has_bridge:
            return self._no_bridge()
        return self._problem

    def _no_bridge(self) -> str:
        return f"the VRS has no bridge {self._bridge_name}; create it or set vrsbridge"

    @property
    def is_ready(self) -> bool:
        """True while the mirror is complete and current."""
        return self._ready.is_set()

    def _require(self) -> Mirror:
        """The mirror; raises Unavailable when it is not complete."""
        if not self._ready.is_set():
            raise Unavailable(self._problem or f"the OVSDB at {self._remote} is not connected")
        return self._mirror

    def system_id(self) -> SystemId:
        """The VRS's system id (vrs §9).

        Raises Unavailable when the mirror is not complete, Refused when there is no id.
        """
        return self._require().system_id()

    @property
    def needs_software_checksum(self) -> bool:
        """True for the userspace datapath, which forwards unfinished checksums as they are."""
        return self._mirror.is_userspace

    def controller_is_connected(self) -> bool:
        """True when exactly one controller is master and connected (vrs §1)."""
        return self._mirror.controller_is_connected()

    def ports(self, pause: Callable[[], None] = lambda: None) -> dict[str, PortState]:
        """Every port of ours by name, complete.

        `pause` is called after each 200 ports; it may switch greenlets. Raises Unavailable when the
        mirror is not complete, or was made anew meanwhile.
        """
        mirror = self._require()
        found = {}
        for count, name in enumerate(mirror.port_names(), start=1):
            if count % _PORTS_BATCH == 0:
                pause()
            found[name] = mirror.port(name)
        if mirror is not self._mirror or not self._ready.is_set():
            raise Unavailable(f"the OVSDB at {self._remote} was connected anew while it was read")
        return found

    def port(self, port_name: str) -> PortState | None:
        """One port of ours, or None when nothing of it is there.

        Raises Unavailable when the mirror is not complete.
        """
        state = self._require().port(port_name)
        return state if state.has_port or state.has_port_row or state.entity_uuid else None

    def networks(self) -> dict[str, Network]:
        """The networks whose tags the bridge has, by network id.

        Raises Unavailable when the mirror is not complete.
        """
        return self._require().networks()

    # -- changes ----------------------------------------------------------------------------------

    def _transact(self, wanted: list[operations.Operation], deadline: Deadline) -> list[Any]:
        """Carry out all operations or none; returns one result for each."""
        connection = self._connection
        if connection is None or not self._ready.is_set():
            raise Unavailable(self._problem or f"the OVSDB at {self._remote} is not connected")
        results: list[Any] = connection.request(
            "transact", [_DATABASE, *wanted], deadline.at_most(_CALL_S)
        )
        # One more result than operations, with an error, means that the commit itself failed.
        for index, result in enumerate(results):
            if isinstance(result, dict) and result.get("error"):
                self._raise(wanted[index] if index < len(wanted) else {}, result)
        return results

    def _raise(self, operation: operations.Operation, result: dict[str, Any]) -> None:
        if operation.get("op") == "wait" and operation.get("table") == "Bridge":
            raise NotFound(self._no_bridge())
        detail = result.get("details") or result["error"]
        if result["error"] in _CONFLICTS:
            raise Conflict(f"the VRS refused the change: {detail}")
        raise Unavailable(f"the VRS refused the change: {result['error']}: {detail}")

    @staticmethod
    def _own(port_name: str) -> None:
        if not VethPair.is_bridge_port(port_name):
            raise Refused(f"the port {port_name!r} is not one of this driver's (nln…-1)")

    def attach(self, attachment: Attachment, deadline: Deadline) -> None:
        """Plug a port and write its rows; whatever an earlier life left under its names goes.

        Idempotent. Raises NotFound without the bridge, Conflict, Unavailable. Switches greenlets.
        """
        name = attachment.port_name
        self._own(name)
        entities, port_uuids = self._mirror.entities_of(name), self._mirror.port_uuids(name)
        self._transact(
            operations.attach(attachment, self._bridge_name, entities, port_uuids), deadline
        )

    def detach(self, port_name: str, deadline: Deadline) -> bool:
        """Take a port of ours and its rows away; False when nothing was there.

        Raises Conflict, Unavailable. Switches greenlets.
        """
        self._own(port_name)
        mirror = self._require()
        if self.port(port_name) is None:
            return False
        entities, port_uuids = mirror.entities_of(port_name), mirror.port_uuids(port_name)
        self._transact(operations.detach(port_name, entities, port_uuids), deadline)
        return True

    def rename(
        self, port_name: str, entity_uuid: str, entity_name: str, deadline: Deadline
    ) -> None:
        """Give the entity of a port of ours another name. Switches greenlets."""
        self._transact(operations.rename(port_name, entity_uuid, entity_name), deadline)

    def remember(self, network: Network, deadline: Deadline) -> None:
        """Write a network's tag onto the bridge. Raises NotFound without one.

        Switches greenlets.
        """
        results = self._transact(operations.remember(network, self._bridge_name), deadline)
        if results[0].get("count") == 0:
            raise NotFound(self._no_bridge())

    def forget(self, network_id: str, deadline: Deadline) -> None:
        """Take a network's tag from the bridge; success when it has none. Switches greenlets."""
        tag = TAG + network_id
        self._forgotten.add(tag)
        try:
            self._transact(operations.forget(tag, self._bridge_name), deadline)
        finally:
            self._forgotten.discard(tag)
