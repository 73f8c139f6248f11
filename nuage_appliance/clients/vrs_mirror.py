"""What the VRS's OVSDB holds, as far as this product needs it, and what can be read from it.

Owns the rows that a monitor sent. Must never switch greenlets: whoever reads sees one moment.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nuage_appliance.base.faults import Refused
from nuage_appliance.clients.ovsdb_table import Table, members
from nuage_appliance.model import Network, PortState, VethPair

TAG = "nuage-network-"  # how the keys of this driver in a bridge's external_ids begin
COLUMNS = {
    "Open_vSwitch": ["external_ids"],
    "Bridge": ["name", "external_ids", "datapath_type"],
    "Port": ["name"],
    "Interface": ["name", "external_ids", "ofport", "error"],
    "Nuage_Port_Table": ["name", "mac", "ip_addr", "evpn_id"],
    "Nuage_VM_Table": ["vm_uuid", "vm_name", "ports"],
    "Controller": ["target", "role", "is_connected"],
}
# The column by which rows of a table are looked up, where it is not the name. A VM row lists the
# names of its ports, and is found by each of them.
_KEYS = {"Open_vSwitch": None, "Controller": "target", "Nuage_VM_Table": "ports"}
_PORT_TABLES = ("Port", "Interface", "Nuage_Port_Table", "Nuage_VM_Table")
# The tables whose rows a plugged port cannot do without, and the column with the port's name.
_NEEDED = {"Port": "name", "Nuage_Port_Table": "name", "Nuage_VM_Table": "ports"}


@dataclasses.dataclass(frozen=True)
class SystemId:
    """The VRS's id, and what the predecessor would have taken for it (vrs §9)."""

    value: str
    predecessor_token: str


@dataclasses.dataclass(frozen=True)
class Changes:
    """What an update meant: (port name, address) of ports that were resolved, and lost ports."""

    resolved: list[tuple[str, str]]
    lost: list[str]


class Mirror:
    """The rows of one connection's monitors. Complete when the client says so."""

    def __init__(self, bridge_name: str) -> None:
        self._bridge_name = bridge_name
        self._tables = {table: Table(_KEYS.get(table, "name")) for table in COLUMNS}

    # -- what the monitor sends -------------------------------------------------------------------

    def put_initial(self, table: str, uuid: str, row: dict[str, Any]) -> None:
        """Take over a row of a monitor's first answer; an update may have brought a newer one."""
        if uuid not in self._tables[table].rows:
            self._tables[table].put(uuid, row)

    def update(self, changed_tables: dict[str, Any]) -> Changes:
        """Take over an `update` (RFC 7047 §4.1.6): table -> row's UUID -> old and new."""
        changes = Changes(resolved=[], lost=[])
        for name, rows in changed_tables.items():
            table = self._tables.get(name)
            if table is None:
                continue
            for uuid, change in rows.items():
                new = change.get("new")
                if new is not None:
                    table.put(uuid, new)
                    if name == "Nuage_Port_Table" and "ip_addr" in change.get("old", ()):
                        changes.resolved.append((new["name"], new["ip_addr"]))
                    continue
                gone = table.drop(uuid)
                if gone is not None and name in _NEEDED:
                    names = members(gone[_NEEDED[name]])
                    changes.lost.extend(one for one in names if VethPair.is_bridge_port(one))
        return changes

    # -- the bridge -------------------------------------------------------------------------------

    @property
    def has_bridge(self) -> bool:
        """True when the VRS has the configured bridge."""
        return self._bridge() is not None

    def _bridge(self) -> dict[str, Any] | None:
        return self._tables["Bridge"].first(self._bridge_name)

    def tags(self) -> frozenset[str] | None:
        """The keys of the bridge's external_ids that are this driver's; None without a bridge."""
        bridge = self._bridge()
        if bridge is None:
            return None
        return frozenset(key for key in bridge["external_ids"] if key.startswith(TAG))

    def networks(self) -> dict[str, Network]:
        """The networks whose tags the bridge has, by network id."""
        bridge = self._bridge()
        found = (
            Network.from_tag(key.removeprefix(TAG), value)
            for key, value in (bridge["external_ids"] if bridge else {}).items()
            if key.startswith(TAG)
        )
        return {network.network_id: network for network in found if network}

    @property
    def is_userspace(self) -> bool:
        """True when the bridge's datapath is the userspace one."""
        bridge = self._bridge()
        return bridge is not None and bridge["datapath_type"] == "netdev"

    # -- the switch -------------------------------------------------------------------------------

    def system_id(self) -> SystemId:
        """The VRS's system id (vrs §9); raises Refused when there is none."""
        for row in self._tables["Open_vSwitch"].rows.values():
            ids = row["external_ids"]
            tokens = [token for pair in sorted(ids.items()) for token in pair]
            predecessor_token = tokens[1] if tokens else ""
            if "system-id" in ids:
                return SystemId(ids["system-id"], predecessor_token)
            if len(ids) == 1:
                return SystemId(next(iter(ids.values())), predecessor_token)
        raise Refused(
            "the VRS has no external_ids:system-id; set it, or set hostid in the configuration"
        )

    def controller_is_connected(self) -> bool:
        """True when exactly one controller is master and connected (vrs §1)."""
        masters = [
            row
            for row in self._tables["Controller"].rows.values()
            if row["role"] == "master" and row["is_connected"]
        ]
        return len(masters) == 1

    # -- ports ------------------------------------------------------------------------------------

    def port_names(self) -> set[str]:
        """The names of this driver's ports of which any row is there."""
        names: set[str] = set()
        for table in _PORT_TABLES:
            names |= self._tables[table].names()
        return {name for name in names if VethPair.is_bridge_port(name)}

    def port(self, name: str) -> PortState:
        """What the VRS has of one port; of a port that is not there, empty fields."""
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

    def entities_of(self, port_name: str) -> set[str]:
        """The vm_uuid of each VM row that lists a port."""
        rows = self._tables["Nuage_VM_Table"].named(port_name)
        return {row["vm_uuid"] for row in rows.values()}

    def port_uuids(self, port_name: str) -> list[str]:
        """The UUIDs of the Port rows with a name."""
        return list(self._tables["Port"].named(port_name))
