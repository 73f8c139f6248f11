"""The VSC of one lab host: resolves the rows of its VRS against the VSD simulator and programs its switch.

One thread decides. Everything that happens comes through one queue; after each burst `reconcile` compares what is with what
should be and acts on the difference, so that the order of events does not matter.
"""

import argparse
import logging
import queue
import time

from nuage_lab.hosts.underlay import is_host_address, tunnel_address
from nuage_lab.vrs import flows
from nuage_lab.vrs.control import ControlServer
from nuage_lab.vrs.controller_faults import ControllerFaults
from nuage_lab.vrs.mirror import COLUMNS, Mirror
from nuage_lab.vrs.neighbours import Neighbours
from nuage_lab.vrs.openflow import OpenFlow
from nuage_lab.vrs.ovsdb import Ovsdb
from nuage_lab.vrs.resolutions import Resolutions
from nuage_lab.vrs.vsd_client import VsdClient

LOG = logging.getLogger("vsc")
TICK_S = 0.2
REREAD_S = 5.0
ROWS_AT_ONCE = 200
NETWORK_TYPES = {"enterprise", "domain", "zone", "subnet", "l2domain"}
BLANK = {
    "ip_addr": "",
    "subnet_mask": "",
    "gateway": "",
    "nuage_domain": "",
    "nuage_zone": "",
    "nuage_network": "",
    "nuage_network_type": "",
    "evpn_id": 0,
    "vrf_id": 0,
}


def resolution_columns(answer):
    """Return the columns of Nuage_Port_Table for VSD's answer (vrs §10.1)."""
    return {
        "ip_addr": answer["ip"] or "",
        "subnet_mask": answer["netmask"] or "",
        "gateway": answer["gateway"] or "",
        "nuage_domain": answer["domain"] or "",
        "nuage_zone": answer["zone"] or "",
        "nuage_network": answer["network"] or "",
        "nuage_network_type": "ipv4",
        "evpn_id": answer["evpn_id"],
        "vrf_id": answer["vrf_id"] or 0,
    }


def segment_of(row):
    """Return the Segment of a subnet in /vsc/networks, or of an answer to /vsc/resolve."""
    mac = (row.get("gateway_mac") or "").lower() or "68:54:ed:%02x:%02x:%02x" % tuple(
        (row["evpn_id"] & 0xFFFFFF).to_bytes(3, "big")
    )
    return flows.Segment(
        row["evpn_id"], row["vrf_id"] or 0, row["gateway"] or "", mac, bool(row.get("l2"))
    )


class Controller:
    def __init__(self, options):
        self.options = options
        self.events = queue.SimpleQueue()
        self.mirror = Mirror(options.bridge)
        self.resolutions = Resolutions()
        self.database = Ovsdb(options.database, COLUMNS, self.events)
        self.vsd = VsdClient(options.admin_socket, self.events, options.vrs_id)
        self.switch = OpenFlow(options.switch_socket)
        self.neighbours = Neighbours(options.tunnel_bridge)
        self.control = ControlServer(options.control_socket, self.events)
        self.faults = ControllerFaults(options.delay, tuple(options.never), options.wrong_address)
        self.is_connected = False
        self.segments = {}
        self.endpoints = []
        self.active = []
        self._asked_segments = set()  # those VSD does not list are not asked about for ever
        self._written = {}  # row -> columns on their way to the database
        self._last_read = -REREAD_S
        self._problem = None

    def run(self):
        for part in (self.database, self.vsd, self.control):
            part.start()
        self.vsd.read_segments()
        while True:
            events = self._burst()
            for event in events:
                getattr(self, f"_on_{event[0]}")(*event[1:])
            now = time.monotonic()
            if self.is_connected and (events or self._is_something_due(now)):
                self.reconcile(now)

    def _burst(self):
        """Return all that has happened; waits for the first event until something is due."""
        due = self.resolutions.next_due()
        wait = TICK_S if due is None else min(TICK_S, max(0.0, due - time.monotonic()))
        try:
            events = [self.events.get(timeout=wait)]
        except queue.Empty:
            return []
        while not self.events.empty():
            events.append(self.events.get())
        return events

    def _is_something_due(self, now):
        due = self.resolutions.next_due()
        return (
            (due is not None and due <= now)
            or self.switch.is_stale()
            or now - self._last_read > REREAD_S
        )

    # -- events

    def _on_database(self, kind, content):
        if kind == "reset":
            self.mirror.reset(content)
            self._written.clear()
            self.is_connected = True
            LOG.info("database: %d port rows", len(self.mirror.tables["Nuage_Port_Table"]))
        elif kind == "update":
            self.mirror.update(content)
            for row in content.get("Nuage_Port_Table", {}):
                self._written.pop(row, None)
        elif kind == "reply" and content[1]:
            LOG.warning("database refused %s: %s", *content)
            for row in content[0]:
                self._written.pop(row, None)
        elif kind == "lost":
            self.is_connected = False
            LOG.warning("database lost: %s", content)

    def _on_vsd(self, kind, changes):
        now = time.monotonic()
        if kind == "changes":
            self._ask_for_changes(changes, now)
        else:
            LOG.info("VSD: %s", kind)
            for entry in self.resolutions.table.values():
                entry.is_reported = False
            self.resolutions.ask_again(now)
            self.vsd.read_segments()
        self._last_read = -REREAD_S  # the other hosts' endpoints may have changed, too

    def _ask_for_changes(self, changes, now):
        uuids = {change.get("uuid") for change in changes} - {None, ""}
        containers = {change["id"] for change in changes if change["type"].startswith("container")}
        self.resolutions.ask_again(
            now,
            lambda key, entry: (
                key[0] in uuids
                or (
                    entry.answer
                    and {entry.answer.get("container_id"), entry.answer.get("interface_id")}
                    & containers
                )
            ),
        )
        if not NETWORK_TYPES.isdisjoint(change["type"] for change in changes):
            self.vsd.read_segments()
            self.resolutions.ask_again(now)

    def _on_resolved(self, key, answer):
        self.resolutions.answer(key, answer and self.faults.spoil(answer), time.monotonic())

    def _on_segments(self, rows):
        if rows is not None:
            self.segments = {row["evpn_id"]: segment_of(row) for row in rows}

    def _on_endpoints(self, rows):
        if rows is not None:
            self.endpoints = [
                row
                for row in rows
                if row.get("hypervisor_ip")
                and row["hypervisor_ip"] != self.options.hypervisor_ip
                and is_host_address(row["hypervisor_ip"])
            ]

    def _on_control(self, request, reply):
        if "faults" in request:
            try:
                self.faults = ControllerFaults.from_dict(request["faults"])
            except (TypeError, ValueError, AttributeError) as error:
                reply.put({"error": str(error)})
                return
            self.resolutions.ask_again(time.monotonic(), lambda key, entry: entry.answer is None)
        table = self.resolutions.table
        reply.put(
            {
                "connected": self.is_connected,
                "ports": len(self.mirror.tables["Nuage_Port_Table"]),
                "active": len(self.active),
                "absent": sum(entry.is_absent for entry in table.values()),
                "flow_problem": self._problem,
                "faults": vars(self.faults),
            }
        )

    # -- decisions

    def reconcile(self, now):
        """Ask what is to be asked; make flows, rows and VSD's state what they should be."""
        numbers = self.mirror.port_numbers()
        attachments = self.mirror.attachments(numbers)
        keys = {a.key for a in attachments if a.key}
        for key, entry in self.resolutions.follow(keys, now + self.faults.delay_s):
            self._report(key, "gone")
        for key in self.resolutions.take_due(now):
            if self.faults.is_never(key[0]):
                self.resolutions.postpone(key)
            else:
                self.vsd.resolve(key, is_first=self.resolutions.table[key].answer is None)
        tunnel_port = numbers.get(self.options.tunnel_port, 0)
        if now - self._last_read > REREAD_S:
            self._last_read = now
            if tunnel_port:
                self.vsd.read_endpoints()
        self.active = [
            (a, self.resolutions.table[a.key].answer)
            for a in attachments
            if a.key and a.port_number and self.resolutions.table[a.key].answer
        ]
        self._learn_segments()
        self._push_flows(tunnel_port)
        self._write_rows(attachments)
        self._report_running()

    def _learn_segments(self):
        unknown = (
            (
                {answer["evpn_id"] for _, answer in self.active}
                | {row["evpn_id"] for row in self.endpoints}
            )
            - self.segments.keys()
            - self._asked_segments
        )
        if unknown:
            self._asked_segments |= unknown
            self.vsd.read_segments()

    def _push_flows(self, tunnel_port):
        unlisted = {
            answer["evpn_id"]: answer
            for _, answer in self.active
            if answer["evpn_id"] not in self.segments
        }
        segments = {
            **self.segments,
            **{evpn_id: segment_of(answer) for evpn_id, answer in unlisted.items()},
        }
        local = [
            flows.Endpoint(
                a.mac, answer["ip"] or "", answer["evpn_id"], answer["vrf_id"] or 0, a.port_number
            )
            for a, answer in self.active
        ]
        remote = [
            flows.Endpoint(
                row["mac"].lower(),
                row["ip"] or "",
                row["evpn_id"],
                row["vrf_id"] or 0,
                tunnel_address=tunnel_address(row["hypervisor_ip"]),
            )
            for row in self.endpoints
        ]
        if self.switch.is_stale():
            self.neighbours.forget()
        self.neighbours.tell(
            {endpoint.tunnel_address for endpoint in remote} if tunnel_port else set(),
            time.monotonic(),
        )
        problem = self.switch.push(flows.build(local, remote, segments, tunnel_port))
        if problem and problem != self._problem:
            LOG.warning("flows: %s", problem)
        self._problem = problem

    def _write_rows(self, attachments):
        active = {a.row: answer for a, answer in self.active}
        wanted = {}
        for attachment in attachments:
            answer = active.get(attachment.row)
            if answer is not None and self._problem is None:
                columns = resolution_columns(answer)
            elif self._is_to_be_blanked(attachment):
                columns = BLANK
            else:
                continue
            if columns not in (attachment.resolution, self._written.get(attachment.row)):
                wanted[attachment.row] = columns
        rows = list(wanted)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            self.database.transact(
                [
                    {
                        "op": "update",
                        "table": "Nuage_Port_Table",
                        "where": [["_uuid", "==", ["uuid", row]]],
                        "row": wanted[row],
                    }
                    for row in part
                ],
                part,
            )
        self._written.update(wanted)

    def _is_to_be_blanked(self, attachment):
        """A row that was resolved, and of which VSD or the switch now says that it is nobody's or nowhere."""
        if not attachment.resolution["evpn_id"] and not attachment.resolution["ip_addr"]:
            return False
        entry = self.resolutions.table.get(attachment.key)
        return entry is None or entry.is_absent or not attachment.port_number

    def _report_running(self):
        for attachment, _ in self.active:
            entry = self.resolutions.table[attachment.key]
            if not entry.is_reported:
                entry.is_reported = True
                self._report(attachment.key, "running")

    def _report(self, key, state):
        LOG.info("%s %s %s", key[0][:12], key[1], state)
        self.vsd.report(
            {
                "uuid": key[0],
                "mac": key[1],
                "state": state,
                "hypervisor_ip": self.options.hypervisor_ip,
                "vrs_id": self.options.vrs_id,
            }
        )


def main():
    parser = argparse.ArgumentParser(
        prog="python -m nuage_lab.vrs.controller", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--database", default="/run/openvswitch/db.sock")
    parser.add_argument("--bridge", default="alubr0")
    parser.add_argument(
        "--switch-socket",
        help="management socket of the bridge (default: BRIDGE.mgmt beside the database)",
    )
    parser.add_argument("--tunnel-port", default="vxlan0")
    parser.add_argument("--tunnel-bridge", default="br-phy")
    parser.add_argument("--admin-socket", required=True, help="admin socket of the VSD simulator")
    parser.add_argument("--control-socket", required=True)
    parser.add_argument("--hypervisor-ip", required=True)
    parser.add_argument("--vrs-id", default="")
    parser.add_argument(
        "--delay",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="fault: wait before each resolution",
    )
    parser.add_argument(
        "--never",
        action="append",
        default=[],
        metavar="UUID",
        help="fault: never resolve it, or all",
    )
    parser.add_argument(
        "--wrong-address", action="store_true", help="fault: resolve to another address"
    )
    options = parser.parse_args()
    if options.switch_socket is None:
        options.switch_socket = f"{options.database.rpartition('/')[0]}/{options.bridge}.mgmt"
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s",
        datefmt="%F %T",
    )
    Controller(options).run()


if __name__ == "__main__":
    main()
