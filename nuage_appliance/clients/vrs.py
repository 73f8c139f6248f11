"""The VRS: a mirror of its OVSDB, kept by a monitor stream, and attach and detach as one transaction each.

Owns the mirror. Must never touch a port, row or bridge key that is not this driver's (`nln…-1`, `nuage-network-…`),
and answers from the mirror only while the mirror is complete.
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
from nuage_appliance.clients.ovsdb import Connection
from nuage_appliance.clients.ovsdb_table import Table, members
from nuage_appliance.model import Attachment, Network, PortState, VethPair

_log = logging.getLogger(__name__)

_DATABASE = "Open_vSwitch"
_COLUMNS = {
    "Open_vSwitch": ["external_ids"],
    "Bridge": ["name", "external_ids", "datapath_type"],
    "Port": ["name"],
    "Interface": ["name", "external_ids", "ofport", "error"],
    "Nuage_Port_Table": ["name", "mac", "ip_addr", "evpn_id"],
    "Nuage_VM_Table": ["vm_uuid", "vm_name", "ports"],
    "Controller": ["target", "role", "is_connected"],
}
_TAG = "nuage-network-"
_CALL_S, _READ_S = 5.0, 30.0
_PAUSE_S = 1e-6
_PIECE = 200
# vrs §4.1: Docker; container; started, booted; running, booted.
_DOMAIN_DOCKER, _TYPE_CONTAINER = 4, 4
_STATE = {"event": 2, "event_type": 0, "state": 1, "reason": 1}
# The column by which rows of a table are looked up; for VM rows, the ports that they list.
_KEYS = {"Open_vSwitch": None, "Controller": "target", "Nuage_VM_Table": "ports"}


def _pairs(mapping: Any) -> list[Any]:
    return ["map", [[key, value] for key, value in mapping]]


def _where(column: str, value: Any) -> list[Any]:
    return [[column, "==", value]]


def _tags(bridge: dict[str, Any]) -> set[str]:
    """The keys of a bridge's external_ids that are this driver's."""
    return {key for key in bridge["external_ids"] if key.startswith(_TAG)}


class Vrs:
    """The VRS of this host."""

    def __init__(
        self, remote: str, bridge: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._remote, self._bridge_name, self._clock = remote, bridge, clock
        self._connection: Connection | None = None
        self._tables = {table: Table(_KEYS.get(table, "name")) for table in _COLUMNS}
        self._ready = gevent.event.Event()
        self._problem = f"the OVSDB at {remote} was not reached yet"
        self._forgotten: set[str] = set()  # tags that are being taken away by this driver itself
        self.on_port: Callable[[str, str], None] = lambda port_name, address: None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_lost: Callable[[str], None] = lambda port_name: None

    # -- the stream -------------------------------------------------------------------------------

    def serve(self) -> None:
        """The greenlet that keeps the mirror; reconnects for ever, never returns."""
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
        self._tables = {table: Table(_KEYS.get(table, "name")) for table in _COLUMNS}
        for table, columns in _COLUMNS.items():
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
            for count, (uuid, change) in enumerate(initial.get(table, {}).items()):
                if uuid not in self._tables[table].rows:  # an update may have come before its turn
                    self._tables[table].put(uuid, change["new"])
                if count % 500 == 499:
                    gevent.sleep(_PAUSE_S)
        self._problem = ""
        self._ready.set()
        self.on_ready()

    def _update(self, params: list[Any]) -> None:
        resolved: list[tuple[str, str]] = []
        before = self._bridge()
        for name, changes in params[1].items():
            table = self._tables.get(name)
            if table is None:
                continue
            for uuid, change in changes.items():
                new = change.get("new")
                if new is not None:
                    table.put(uuid, new)
                    if name == "Nuage_Port_Table" and "ip_addr" in change.get("old", ()):
                        resolved.append((new["name"], new["ip_addr"]))
                    continue
                gone = table.drop(uuid)
                if gone and name in ("Nuage_Port_Table", "Nuage_VM_Table", "Port"):
                    for port_name in members(gone["ports" if name == "Nuage_VM_Table" else "name"]):
                        if VethPair.is_bridge_port(port_name):
                            self.on_lost(port_name)
        after = self._bridge()
        if (
            after is not None
            and self._ready.is_set()
            and (before is None or _tags(before) - _tags(after) - self._forgotten)
        ):
            self.on_ready()  # the bridge is new, or lost tags: what it lacks can be written again
        for count, (port_name, address) in enumerate(
            resolved
        ):  # after the mirror is whole: from here on others may look
            if count % 50 == 49:
                gevent.sleep(_PAUSE_S)
            self.on_port(port_name, address)

    # -- what the mirror says ---------------------------------------------------------------------

    @property
    def problem(self) -> str:
        """Why the VRS cannot be used now, or an empty text."""
        if self._ready.is_set() and self._bridge() is None:
            return f"the VRS has no bridge {self._bridge_name}; create it or set vrsbridge"
        return self._problem

    @property
    def is_ready(self) -> bool:
        """True while the mirror is complete and current."""
        return self._ready.is_set()

    def _require(self) -> None:
        if not self._ready.is_set():
            raise Unavailable(self._problem or f"the OVSDB at {self._remote} is not connected")

    def _bridge(self) -> dict[str, Any] | None:
        return self._tables["Bridge"].first(self._bridge_name)

    def system_id(self) -> tuple[str, str]:
        """The VRS's system id, and what the predecessor's third-token rule made of it (vrs §9).

        Raises Unavailable when the mirror is not complete, Refused when there is no id.
        """
        self._require()
        for row in self._tables["Open_vSwitch"].rows.values():
            ids = row["external_ids"]
            tokens = [token for pair in sorted(ids.items()) for token in pair]
            old = tokens[1] if tokens else ""
            if "system-id" in ids:
                return ids["system-id"], old
            if len(ids) == 1:
                return next(iter(ids.values())), old
        raise Refused(
            "the VRS has no external_ids:system-id; set it, or set hostid in the configuration"
        )

    @property
    def needs_software_checksum(self) -> bool:
        """True when the bridge's datapath is the userspace one, which forwards unfinished checksums as they are."""
        bridge = self._bridge()
        return bridge is not None and bridge["datapath_type"] == "netdev"

    def controller_is_connected(self) -> bool:
        """True when exactly one controller is master and connected (vrs §1)."""
        masters = [
            row
            for row in self._tables["Controller"].rows.values()
            if row["role"] == "master" and row["is_connected"]
        ]
        return len(masters) == 1

    def _port_names(self) -> set[str]:
        names = set().union(
            *(
                self._tables[table].names()
                for table in ("Port", "Interface", "Nuage_Port_Table", "Nuage_VM_Table")
            )
        )
        return {name for name in names if VethPair.is_bridge_port(name)}

    def ports(self, pause: Callable[[], None] = lambda: None) -> dict[str, PortState]:
        """Every port of ours by name, complete; raises Unavailable when the mirror is not, or is another one at the end.

        `pause` is called now and then; it may switch greenlets.
        """
        self._require()
        tables = self._tables
        found = {}
        for count, name in enumerate(self._port_names()):
            if count % _PIECE == _PIECE - 1:
                pause()
            found[name] = self._port(name)
        if tables is not self._tables or not self._ready.is_set():
            raise Unavailable(f"the OVSDB at {self._remote} was connected anew while it was read")
        return found

    def port(self, port_name: str) -> PortState | None:
        """One port of ours, or None when nothing of it is there; raises Unavailable when the mirror is not complete."""
        self._require()
        state = self._port(port_name)
        return state if state.has_port or state.has_port_row or state.entity_uuid else None

    def _port(self, name: str) -> PortState:
        interface = self._tables["Interface"].first(name)
        row = self._tables["Nuage_Port_Table"].first(name)
        entity = self._tables["Nuage_VM_Table"].first(name)
        ofport = members(interface["ofport"])[:1] if interface else []
        error = members(interface["error"])[:1] if interface else []
        return PortState(
            port_name=name,
            mac=row["mac"] if row else "",
            entity_uuid=entity["vm_uuid"] if entity else "",
            external_ids=interface["external_ids"] if interface else {},
            resolved_address=row["ip_addr"] if row else "",
            has_port=self._tables["Port"].first(name) is not None,
            has_port_row=row is not None,
            ofport=ofport[0] if ofport else None,
            error=error[0] if error else "",
        )

    def networks(self) -> dict[str, Network]:
        """The networks whose tags the bridge carries, by network id."""
        self._require()
        bridge = self._bridge()
        found = (
            Network.from_tag(key.removeprefix(_TAG), value)
            for key, value in (bridge["external_ids"] if bridge else {}).items()
            if key.startswith(_TAG)
        )
        return {network.network_id: network for network in found if network}

    # -- changes ----------------------------------------------------------------------------------

    def _transact(self, operations: list[dict[str, Any]], deadline: Deadline) -> list[Any]:
        connection = self._connection
        if connection is None or not self._ready.is_set():
            raise Unavailable(self._problem or f"the OVSDB at {self._remote} is not connected")
        results = connection.request(
            "transact", [_DATABASE, *operations], Deadline(deadline.bound(_CALL_S), self._clock)
        )
        for index, result in enumerate(results):
            if isinstance(result, dict) and result.get("error"):
                self._raise(operations[index] if index < len(operations) else {}, result)
        return results

    def _raise(self, operation: dict[str, Any], result: dict[str, Any]) -> None:
        if operation.get("op") == "wait" and operation.get("table") == "Bridge":
            raise NotFound(f"the VRS has no bridge {self._bridge_name}; create it or set vrsbridge")
        detail = result.get("details") or result["error"]
        if result["error"] in (
            "constraint violation",
            "timed out",
            "referential integrity violation",
        ):
            raise Conflict(f"the VRS refused the change: {detail}")
        raise Unavailable(f"the VRS refused the change: {result['error']}: {detail}")

    def attach(self, attachment: Attachment, deadline: Deadline) -> None:
        """Plug a port and write its rows in one transaction; whatever an earlier life left under its names goes.

        Idempotent. Raises NotFound without the bridge, Conflict, Unavailable. Switches greenlets.
        """
        name = attachment.port_name
        if not VethPair.is_bridge_port(name):
            raise Refused(f"the port {name!r} is not one of this driver's (nln…-1)")
        bridge = {"table": "Bridge", "where": _where("name", self._bridge_name)}
        operations = [
            {
                "op": "wait",
                "timeout": 0,
                **bridge,
                "columns": ["name"],
                "until": "==",
                "rows": [{"name": self._bridge_name}],
            },
            *self._removal(name, attachment.entity_uuid),
            {
                "op": "insert",
                "table": "Interface",
                "uuid-name": "interface",
                "row": {"name": name, "external_ids": _pairs(attachment.external_ids)},
            },
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": "port",
                "row": {"name": name, "interfaces": ["named-uuid", "interface"]},
            },
            {
                "op": "mutate",
                **bridge,
                "mutations": [["ports", "insert", ["set", [["named-uuid", "port"]]]]],
            },
            {
                "op": "insert",
                "table": "Nuage_Port_Table",
                "row": {
                    "name": name,
                    "mac": attachment.mac,
                    "bridge": self._bridge_name,
                    "vm_domain": _DOMAIN_DOCKER,
                    "metadata": _pairs(
                        [
                            ("nuage-enterprise-domain", ""),
                            ("nuage-enterprise-network", ""),
                            ("nuage-enterprise-zone", ""),
                            ("nuage-enterprise-network-type", ""),
                        ]
                    ),
                },
            },
            {
                "op": "insert",
                "table": "Nuage_VM_Table",
                "row": {
                    "type": _TYPE_CONTAINER,
                    "domain": _DOMAIN_DOCKER,
                    **_STATE,
                    "vm_uuid": attachment.entity_uuid,
                    "vm_name": attachment.entity_name,
                    "ports": ["set", [name]],
                    "metadata": _pairs([("nuage-extension", "true"), ("enterprise", "")]),
                },
            },
            {"op": "comment", "comment": f"nuage-libnetwork attach {name}"},
        ]
        self._transact(operations, deadline)

    def _removal(self, name: str, entity_uuid: str = "") -> list[dict[str, Any]]:
        """What takes a port of ours away; the Port row's UUID comes from the mirror (vrs §7)."""
        entities = {row["vm_uuid"] for row in self._tables["Nuage_VM_Table"].named(name).values()}
        if entity_uuid:
            entities.add(entity_uuid)
        operations: list[dict[str, Any]] = []
        for entity in sorted(entities):
            where = _where("vm_uuid", entity)
            operations.append(
                {
                    "op": "mutate",
                    "table": "Nuage_VM_Table",
                    "where": where,
                    "mutations": [["ports", "delete", ["set", [name]]]],
                }
            )
            operations.append(
                {
                    "op": "delete",
                    "table": "Nuage_VM_Table",
                    "where": [*where, ["ports", "==", ["set", []]]],
                }
            )
        operations.append(
            {"op": "delete", "table": "Nuage_Port_Table", "where": _where("name", name)}
        )
        stale = [["uuid", uuid] for uuid in self._tables["Port"].named(name)]
        if stale:
            # Every bridge is meant: the port may have been plugged under an earlier vrsbridge setting.
            operations.append(
                {
                    "op": "mutate",
                    "table": "Bridge",
                    "where": [],
                    "mutations": [["ports", "delete", ["set", stale]]],
                }
            )
        return operations

    def detach(self, port_name: str, deadline: Deadline) -> bool:
        """Take a port of ours and its rows away in one transaction; False when nothing was there. Switches greenlets."""
        if not VethPair.is_bridge_port(port_name):
            raise Refused(f"the port {port_name!r} is not one of this driver's (nln…-1)")
        self._require()
        if self.port(port_name) is None:
            return False
        self._transact(
            [
                *self._removal(port_name),
                {"op": "comment", "comment": f"nuage-libnetwork detach {port_name}"},
            ],
            deadline,
        )
        return True

    def rename(
        self, port_name: str, entity_uuid: str, entity_name: str, deadline: Deadline
    ) -> None:
        """Give the entity of a port of ours another name. Switches greenlets."""
        name = ["set", ["vm_name"]]
        self._transact(
            [
                {
                    "op": "update",
                    "table": "Nuage_VM_Table",
                    "where": _where("vm_uuid", entity_uuid),
                    "row": {"vm_name": entity_name},
                },
                {
                    "op": "mutate",
                    "table": "Interface",
                    "where": _where("name", port_name),
                    "mutations": [
                        ["external_ids", "delete", name],
                        ["external_ids", "insert", _pairs([("vm_name", entity_name)])],
                    ],
                },
            ],
            deadline,
        )

    def remember(self, network: Network, deadline: Deadline) -> None:
        """Write a network's tag onto the bridge. Switches greenlets."""
        key = _TAG + network.network_id
        results = self._transact(
            [
                {
                    "op": "mutate",
                    "table": "Bridge",
                    "where": _where("name", self._bridge_name),
                    "mutations": [
                        ["external_ids", "delete", ["set", [key]]],
                        ["external_ids", "insert", _pairs([(key, network.to_tag())])],
                    ],
                }
            ],
            deadline,
        )
        if results[0].get("count") == 0:
            raise NotFound(f"the VRS has no bridge {self._bridge_name}; create it or set vrsbridge")

    def forget(self, network_id: str, deadline: Deadline) -> None:
        """Take a network's tag from the bridge; success when it has none. Switches greenlets."""
        key = _TAG + network_id
        self._forgotten.add(key)
        try:
            self._transact(
                [
                    {
                        "op": "mutate",
                        "table": "Bridge",
                        "where": _where("name", self._bridge_name),
                        "mutations": [["external_ids", "delete", ["set", [key]]]],
                    }
                ],
                deadline,
            )
        finally:
            self._forgotten.discard(key)
