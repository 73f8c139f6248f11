"""The VSC of one lab host: resolves its VRS's rows against the VSD simulator, programs its switch.

One thread decides. All events come through one queue; after each burst `reconcile` compares what is
with what should be and acts on the difference, so that the order of events does not matter.
"""

import argparse
import logging
import queue
import time

from nuage_lab.hosts.underlay import is_host_address
from nuage_lab.vrs import flows
from nuage_lab.vrs.answers import (
    BLANK,
    local_endpoint,
    remote_endpoint,
    resolution_columns,
    segment_of,
)
from nuage_lab.vrs.control import ControlServer
from nuage_lab.vrs.controller_faults import ControllerFaults
from nuage_lab.vrs.mirror import COLUMNS, Mirror
from nuage_lab.vrs.neighbours import TunnelNeighbours
from nuage_lab.vrs.openflow import OpenFlow
from nuage_lab.vrs.ovsdb import Ovsdb
from nuage_lab.vrs.resolutions import Resolutions
from nuage_lab.vrs.vsd_client import VsdClient

LOG = logging.getLogger("vsc")
TICK_S = 0.2
REREAD_S = 5.0
ROWS_AT_ONCE = 200
NETWORK_TYPES = {"enterprise", "domain", "zone", "subnet", "l2domain"}


class Controller:
    """Owns the state of one VSC; all its methods run on the thread of `run`."""

    def __init__(self, options):
        self.options = options
        self.events = queue.SimpleQueue()
        self.mirror = Mirror(options.bridge)
        self.resolutions = Resolutions()
        self.database = Ovsdb(options.database, COLUMNS, self.events)
        self.vsd = VsdClient(options.admin_socket, self.events, options.vrs_id)
        self.switch = OpenFlow(options.switch_socket)
        self.tunnel_neighbours = TunnelNeighbours(options.tunnel_bridge)
        self.control = ControlServer(options.control_socket, self.events)
        self.faults = ControllerFaults(options.delay, tuple(options.never), options.wrong_address)
        self.is_connected = False
        self.segments = {}  # Segment by evpn_id, as the VSD lists them
        self.endpoints = []  # the running endpoints of other hosts, as the VSD lists them
        self.active = []  # (Attachment, VSD's answer) of each resolved row with a port
        self._asked_segments = set()  # unlisted ones; the VSD is asked about each only once
        self._written = {}  # columns on their way to the database, by row
        self._last_read = -REREAD_S
        self._problem = None  # what the last push of flows failed with

    def run(self):
        """Start the reading threads, then handle events for ever."""
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
        """Return all events that have happened; waits for the first one until something is due."""
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
        # The endpoints of other hosts may have changed, too: read them again at once.
        self._last_read = -REREAD_S

    def _ask_for_changes(self, changes, now):
        uuids = {change.get("uuid") for change in changes} - {None, ""}
        changed = {change["id"] for change in changes if change["type"].startswith("container")}

        def concerns(key, entry):
            answer = entry.answer or {}
            ids = {answer.get("container_id"), answer.get("interface_id")}
            return key[0] in uuids or not ids.isdisjoint(changed)

        self.resolutions.ask_again(now, concerns)
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
            self.endpoints = [row for row in rows if self._is_on_another_host(row)]

    def _is_on_another_host(self, row):
        address = row.get("hypervisor_ip")
        return address and address != self.options.hypervisor_ip and is_host_address(address)

    def _on_control(self, request, reply):
        if "faults" in request:
            try:
                self.faults = ControllerFaults.from_dict(request["faults"])
            except (TypeError, ValueError, AttributeError) as error:
                reply.put({"error": str(error)})
                return
            self.resolutions.ask_again(time.monotonic(), lambda key, entry: entry.answer is None)
        table = self.resolutions.table
        answer = {
            "connected": self.is_connected,
            "ports": len(self.mirror.tables["Nuage_Port_Table"]),
            "active": len(self.active),
            "absent": sum(entry.is_absent for entry in table.values()),
            "flow_problem": self._problem,
            "faults": vars(self.faults),
        }
        reply.put(answer)

    # -- decisions

    def reconcile(self, now):
        """Ask the VSD what is due; make flows, rows and the VSD's state what they should be."""
        numbers = self.mirror.port_numbers()
        attachments = self.mirror.attachments(numbers)
        keys = {a.key for a in attachments if a.key}
        for key, _ in self.resolutions.follow(keys, now + self.faults.delay_s):
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
        used = {answer["evpn_id"] for _, answer in self.active}
        used |= {row["evpn_id"] for row in self.endpoints}
        unknown = used - self.segments.keys() - self._asked_segments
        if unknown:
            self._asked_segments |= unknown
            self.vsd.read_segments()

    def _push_flows(self, tunnel_port):
        segments = dict(self.segments)
        for _, answer in self.active:
            if answer["evpn_id"] not in self.segments:
                segments[answer["evpn_id"]] = segment_of(answer)
        local = [local_endpoint(attachment, answer) for attachment, answer in self.active]
        remote = [remote_endpoint(row) for row in self.endpoints]
        if self.switch.is_stale():
            self.tunnel_neighbours.forget()
        if tunnel_port:
            addresses = {endpoint.tunnel_address for endpoint in remote}
            self.tunnel_neighbours.refresh(addresses, time.monotonic())
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
            self.database.transact([_update_of(row, wanted[row]) for row in part], part)
        self._written.update(wanted)

    def _is_to_be_blanked(self, attachment):
        """Return whether a resolved row must lose its columns.

        That is so if the VSD no longer knows the container, or the switch has no such port.
        """
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
        report = {
            "uuid": key[0],
            "mac": key[1],
            "state": state,
            "hypervisor_ip": self.options.hypervisor_ip,
            "vrs_id": self.options.vrs_id,
        }
        self.vsd.report(report)


def _update_of(row, columns):
    where = [["_uuid", "==", ["uuid", row]]]
    return {"op": "update", "table": "Nuage_Port_Table", "where": where, "row": columns}


def main():
    """Parse the command line and run the controller."""
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
