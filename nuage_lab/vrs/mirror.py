"""A copy of the OVSDB rows on which the controller decides. No I/O."""

from dataclasses import dataclass

from nuage_lab.vrs.ovsdb import as_map, as_set

RESOLUTION = (
    "ip_addr",
    "subnet_mask",
    "gateway",
    "nuage_domain",
    "nuage_zone",
    "nuage_network",
    "nuage_network_type",
    "evpn_id",
    "vrf_id",
)
COLUMNS = {
    "Nuage_Port_Table": ("name", "mac", "bridge", *RESOLUTION),
    "Nuage_VM_Table": ("vm_uuid", "ports", "metadata"),
    "Interface": ("name", "ofport"),
    "Port": ("name",),
    "Bridge": ("name", "ports"),
}


@dataclass(frozen=True)
class Attachment:
    """A row of Nuage_Port_Table with what belongs to it.

    `vm_uuid` is None if no row claims the port for a container that the VSD holds (split
    activation). `port_number` is 0 if no such device is on the bridge.
    """

    row: str
    name: str
    mac: str
    vm_uuid: str
    port_number: int
    resolution: dict

    @property
    def key(self):
        """The (container UUID, MAC) to resolve, or None."""
        return None if self.vm_uuid is None else (self.vm_uuid, self.mac)


class Mirror:
    """The monitored tables by table name and row uuid."""

    def __init__(self, bridge):
        self.bridge = bridge
        self.tables = {name: {} for name in COLUMNS}

    def reset(self, tables):
        """Replace all rows by those of a new monitor."""
        self.tables = {name: {} for name in COLUMNS}
        self.update(tables)

    def update(self, tables):
        """Apply an update: {table: {UUID: {"new": columns}}}, without "new" for a deleted row."""
        for name, rows in tables.items():
            for row, change in rows.items():
                if "new" in change:
                    self.tables[name][row] = change["new"]
                else:
                    self.tables[name].pop(row, None)

    def port_numbers(self):
        """Return the OpenFlow number of each device that works on the bridge."""
        bridges = [row for row in self.tables["Bridge"].values() if row["name"] == self.bridge]
        on_bridge = {
            self.tables["Port"][port]["name"]
            for row in bridges
            for port in as_set(row["ports"])
            if port in self.tables["Port"]
        }
        numbers = {}
        for row in self.tables["Interface"].values():
            number = next(iter(as_set(row["ofport"])), 0)
            if number > 0 and row["name"] in on_bridge:
                numbers[row["name"]] = number
        return numbers

    def attachments(self, port_numbers):
        """Return the Attachment of each row; `port_numbers` as from the method of that name."""
        owners = {
            name: row["vm_uuid"]
            for row in self.tables["Nuage_VM_Table"].values()
            if as_map(row["metadata"]).get("nuage-extension") == "true"
            for name in as_set(row["ports"])
        }
        return [
            Attachment(
                uuid,
                row["name"],
                row["mac"].lower(),
                owners.get(row["name"]),
                port_numbers.get(row["name"], 0) if row["bridge"] == self.bridge else 0,
                {column: row[column] for column in RESOLUTION},
            )
            for uuid, row in self.tables["Nuage_Port_Table"].items()
        ]
