"""The VRS's OVSDB goes away, forgets, or is changed by others: what is ours is restored, what is
foreign stays as it is.

A real ovsdb-server, no vswitchd: what is asserted is what the database holds.
"""

import json
import shutil
import signal
import time

import pytest

from tests.support.host import Host
from tests.support.ovsdb import SYSTEM_ID, Ovsdb
from tests.support.shifted_clock import launcher

# "Within a second": what a test waits for it, with much room for a loaded machine. No audit happens
# here by itself.
_AT_ONCE_S = 15.0
_RECONNECT_S = 30.0
_OUR_COLUMNS = {
    "Nuage_Port_Table": ["name", "mac", "bridge", "vm_domain", "metadata"],
    "Nuage_VM_Table": [
        "vm_uuid",
        "vm_name",
        "ports",
        "type",
        "domain",
        "state",
        "event",
        "event_type",
        "reason",
        "metadata",
    ],
    "Interface": ["name", "external_ids"],
}


class Foreign:
    """A VM's port and rows, a bridge and keys that are none of this driver's business."""

    def __init__(self, ovsdb):
        self._ovsdb = ovsdb
        ovsdb.transact(
            {
                "op": "insert",
                "table": "Interface",
                "uuid-name": "i1",
                "row": {"name": "tap0", "external_ids": ["map", [["vm", "one"]]]},
            },
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": "p1",
                "row": {"name": "tap0", "interfaces": ["named-uuid", "i1"]},
            },
            {
                "op": "mutate",
                "table": "Bridge",
                "where": [["name", "==", "alubr0"]],
                "mutations": [
                    ["ports", "insert", ["set", [["named-uuid", "p1"]]]],
                    [
                        "external_ids",
                        "insert",
                        ["map", [["somebody's", "key"], ["nuage-other", "key"]]],
                    ],
                ],
            },
            {
                "op": "insert",
                "table": "Nuage_Port_Table",
                "row": {"name": "tap0", "mac": "52:54:00:00:00:01", "bridge": "alubr0"},
            },
            {
                "op": "insert",
                "table": "Nuage_VM_Table",
                "row": {"vm_uuid": "vm-one", "vm_name": "one", "ports": "tap0"},
            },
            *Ovsdb.bridge_operations(name="br-foreign")[:3],
            {
                "op": "mutate",
                "table": "Open_vSwitch",
                "where": [],
                "mutations": [["bridges", "insert", ["set", [["named-uuid", "b0"]]]]],
            },
        )
        self._before = self._now()

    def _now(self):
        tables = {}
        for table in ("Port", "Interface", "Nuage_Port_Table", "Nuage_VM_Table"):
            key = "vm_uuid" if table == "Nuage_VM_Table" else "name"
            rows = [
                row
                for row in self._ovsdb.rows(table)
                if row[key] in ("tap0", "vm-one", "br-foreign")
            ]
            # A row's _version is anew with every start of the server.
            tables[table] = sorted(
                (
                    {column: value for column, value in row.items() if column != "_version"}
                    for row in rows
                ),
                key=str,
            )
        bridges = {
            row["name"]: row for row in self._ovsdb.rows("Bridge", "name", "ports", "external_ids")
        }
        tap = next(row["_uuid"] for row in tables["Port"] if row["name"] == "tap0")
        tables["is plugged"] = json.dumps(tap) in json.dumps(bridges["alubr0"]["ports"])
        tables["keys"] = {
            key: value
            for key, value in bridges["alubr0"]["external_ids"].items()
            if not key.startswith("nuage-network-")
        }
        tables["bridge"] = bridges["br-foreign"]
        return tables

    def check(self):
        """Everything is as it was."""
        assert self._now() == self._before

    def remove(self):
        """Take it all away again."""
        ports = [
            row["_uuid"]
            for row in self._ovsdb.rows("Port", "_uuid", "name")
            if row["name"] == "tap0"
        ]
        other = [
            row["_uuid"]
            for row in self._ovsdb.rows("Bridge", "_uuid", "name")
            if row["name"] == "br-foreign"
        ]
        self._ovsdb.transact(
            {
                "op": "mutate",
                "table": "Bridge",
                "where": [["name", "==", "alubr0"]],
                "mutations": [
                    ["ports", "delete", ["set", ports]],
                    ["external_ids", "delete", ["set", ["somebody's", "nuage-other"]]],
                ],
            },
            {
                "op": "mutate",
                "table": "Open_vSwitch",
                "where": [],
                "mutations": [["bridges", "delete", ["set", other]]],
            },
            {"op": "delete", "table": "Nuage_Port_Table", "where": [["name", "==", "tap0"]]},
            {"op": "delete", "table": "Nuage_VM_Table", "where": [["vm_uuid", "==", "vm-one"]]},
        )


@pytest.fixture(scope="module")
def site_host(simulator):
    made = Host(simulator, "restored", **launcher(grace_s=1.5))
    yield made
    made.close()


class Site:
    """A host with a network and two containers, and what the VRS has of them."""

    def __init__(self, host):
        self.host, self.engine, self.ovsdb, self.app = host, host.engine, host.ovsdb, host.appliance
        self.network_id = self.engine.network_create("n")
        self.endpoints = [self.engine.run(f"c{number}", self.network_id) for number in range(2)]
        host.wait_attached(*self.endpoints)
        self.expected = self.ours()

    def port_name(self, number=0):
        """The bridge port of a container."""
        return self.endpoints[number]["entity_port"].replace("-2", "-1")

    def ours(self):
        """This driver's rows, ports and tags by content; their UUIDs may change."""
        found = {}
        for table, columns in _OUR_COLUMNS.items():
            rows = self.ovsdb.rows(table, *columns)
            found[table] = sorted((row for row in rows if "nln" in json.dumps(row)), key=str)
        by_uuid = {
            json.dumps(row["_uuid"]): row["name"]
            for row in self.ovsdb.rows("Port", "_uuid", "name")
            if row["name"].startswith("nln")
        }
        for bridge in self.ovsdb.rows("Bridge", "name", "ports", "external_ids"):
            if bridge["name"] == "alubr0":
                found["plugged"] = sorted(
                    name for uuid, name in by_uuid.items() if uuid in json.dumps(bridge["ports"])
                )
                found["tags"] = {
                    key: value
                    for key, value in bridge["external_ids"].items()
                    if key.startswith("nuage-network-")
                }
        return found

    def wait_restored(self, seconds=_AT_ONCE_S):
        """Wait until everything of ours is there again, as it was."""
        deadline = time.monotonic() + seconds
        while (now := self.ours()) != self.expected:
            wrong = {
                key: (value, now[key]) for key, value in self.expected.items() if value != now[key]
            }
            assert time.monotonic() < deadline, (
                f"(wanted, found): {wrong}\n{self.app.errors()[-3000:]}"
            )
            time.sleep(0.02)

    def works(self):
        """A container starts and stops, on the network that was there before."""
        endpoint = self.engine.run("later", self.network_id)
        self.host.wait_attached(*self.endpoints, endpoint)
        self.engine.stop(endpoint)
        self.wait_restored()

    def audit_until(self, condition, what):
        """Ask for audits until it is so."""

        def asked():
            self.app.process.send_signal(signal.SIGUSR2)
            time.sleep(0.2)
            return condition()

        self.app.wait_until(asked, what=what)

    def add_bridge(self):
        """The bridge comes (back), empty."""
        self.ovsdb.transact(
            *Ovsdb.bridge_operations(),
            {
                "op": "mutate",
                "table": "Open_vSwitch",
                "where": [],
                "mutations": [["bridges", "insert", ["set", [["named-uuid", "b0"]]]]],
            },
        )

    def delete_bridge(self):
        """As `ovs-vsctl del-br` would."""
        uuid = next(
            row["_uuid"]
            for row in self.ovsdb.rows("Bridge", "_uuid", "name")
            if row["name"] == "alubr0"
        )
        self.ovsdb.transact(
            {
                "op": "mutate",
                "table": "Open_vSwitch",
                "where": [],
                "mutations": [["bridges", "delete", ["set", [uuid]]]],
            }
        )


@pytest.fixture
def site(site_host):
    """Two running containers; whatever was done to the VRS, nothing is left in the end."""
    site_host.begin()
    made = Site(site_host)
    yield made
    if site_host.ovsdb.process.poll() is not None:
        site_host.ovsdb.start()
    if "alubr0" not in site_host.ovsdb.names("Bridge"):
        made.add_bridge()
    site_host.tear_down()
    site_host.wait_clean()
    site_host.check_log()


@pytest.fixture
def foreign(site):
    """Foreign things beside ours; they must be the same in the end."""
    made = Foreign(site.ovsdb)
    yield made
    try:
        made.check()
    finally:
        made.remove()


# -- away ----------------------------------------------------------------------------------------


def test_a_restarted_server_finds_everything_as_it_was(site, foreign):
    for _ in range(3):
        site.ovsdb.stop()
        site.app.wait_until(
            lambda: site.app.status()["components"]["vrs"]["problem"],
            _AT_ONCE_S,
            "that it is noticed",
        )
        site.ovsdb.start()
        site.app.wait_until(
            lambda: not site.app.status()["components"]["vrs"]["problem"],
            _RECONNECT_S,
            "the connection",
        )
        assert site.ours() == site.expected
    site.works()


def test_what_happened_while_the_socket_was_gone_is_made_up_for(site, foreign):
    site.ovsdb.stop()
    started = time.monotonic()
    late = site.engine.run("late", site.network_id)
    site.engine.stop(site.endpoints[1])
    assert time.monotonic() - started < 8, "neither a start nor a stop waits for the VRS"
    site.app.wait_until(
        lambda: "OVSDB" in site.app.status()["components"]["vrs"]["problem"],
        _AT_ONCE_S,
        "its name in the status",
    )
    site.ovsdb.start()
    gone, site.endpoints[1] = site.port_name(1), late
    site.host.wait_attached(*site.endpoints)
    site.app.wait_until(
        lambda: gone not in json.dumps(site.ours()),
        _RECONNECT_S,
        "the end of the stopped container's port",
    )
    assert len(site.ours()["plugged"]) == 2


# -- rows ----------------------------------------------------------------------------------------


def _delete_port(site):
    uuids = [
        row["_uuid"]
        for row in site.ovsdb.rows("Port", "_uuid", "name")
        if row["name"] == site.port_name()
    ]
    site.ovsdb.transact(
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [],
            "mutations": [["ports", "delete", ["set", uuids]]],
        }
    )


def _delete_rows(*tables):
    def delete(site):
        site.ovsdb.transact(
            *[
                {
                    "op": "delete",
                    "table": table,
                    "where": [
                        ["name", "==", site.port_name()]
                        if table == "Nuage_Port_Table"
                        else ["ports", "includes", ["set", [site.port_name()]]]
                    ],
                }
                for table in tables
            ]
        )

    return delete


def _delete_everything_of_one(site):
    _delete_port(site)
    _delete_rows("Nuage_Port_Table", "Nuage_VM_Table")(site)


def _delete_everything_of_all(site):
    uuids = [
        row["_uuid"]
        for row in site.ovsdb.rows("Port", "_uuid", "name")
        if row["name"].startswith("nln")
    ]
    site.ovsdb.transact(
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [],
            "mutations": [["ports", "delete", ["set", uuids]]],
        },
        *[
            {
                "op": "delete",
                "table": "Nuage_Port_Table",
                "where": [["name", "==", site.port_name(number)]],
            }
            for number in range(2)
        ],
        *[
            {
                "op": "delete",
                "table": "Nuage_VM_Table",
                "where": [["ports", "includes", ["set", [site.port_name(number)]]]],
            }
            for number in range(2)
        ],
    )


@pytest.mark.parametrize(
    "damage",
    [
        _delete_port,
        _delete_rows("Nuage_Port_Table"),
        _delete_rows("Nuage_VM_Table"),
        _delete_everything_of_one,
        _delete_everything_of_all,
    ],
    ids=[
        "the port",
        "the port's row",
        "the entity's row",
        "everything of one container",
        "everything of all",
    ],
)
def test_what_somebody_deleted_is_restored_at_once(site, foreign, damage):
    for _ in range(2):
        damage(site)
        site.wait_restored()
    site.works()


def _update(table, column, value, key="name"):
    def update(site):
        where = (
            [["ports", "includes", ["set", [site.port_name()]]]]
            if table == "Nuage_VM_Table"
            else [[key, "==", site.port_name()]]
        )
        results = site.ovsdb.transact(
            {"op": "update", "table": table, "where": where, "row": {column: value}}
        )
        assert results[0]["count"] == 1

    return update


@pytest.mark.parametrize(
    "damage",
    [
        _update("Nuage_Port_Table", "mac", "02:00:00:00:00:99"),
        _update("Nuage_VM_Table", "vm_uuid", "f" * 64),
        _update("Interface", "external_ids", ["map", []]),
    ],
    ids=["another MAC", "another entity", "no external ids"],
)
def test_rows_whose_content_somebody_changed_are_put_right(site, foreign, damage):
    damage(site)
    site.audit_until(lambda: site.ours() == site.expected, "what is ours as it was")


def test_tags_that_somebody_deleted_are_written_again(site, foreign):
    site.ovsdb.transact(
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", "alubr0"]],
            "mutations": [
                ["external_ids", "delete", ["set", [f"nuage-network-{site.network_id}"]]]
            ],
        }
    )
    site.audit_until(lambda: site.ours()["tags"] == site.expected["tags"], "the tag")


def test_an_entity_that_has_a_foreign_port_too_loses_only_ours(site, foreign):
    """A row is never deleted as long as it names a port of somebody else."""
    site.ovsdb.transact(
        {
            "op": "mutate",
            "table": "Nuage_VM_Table",
            "where": [["ports", "includes", ["set", [site.port_name()]]]],
            "mutations": [["ports", "insert", ["set", ["tap7"]]]],
        }
    )
    port = site.port_name()
    site.engine.stop(site.endpoints[0])
    left = [
        row["ports"]
        for row in site.ovsdb.rows("Nuage_VM_Table", "ports")
        if "tap7" in json.dumps(row["ports"])
    ]
    assert left == ["tap7"] and port not in site.ovsdb.names("Nuage_Port_Table")
    site.ovsdb.transact(
        {"op": "delete", "table": "Nuage_VM_Table", "where": [["ports", "==", ["set", ["tap7"]]]]}
    )


# -- the bridge ----------------------------------------------------------------------------------


def test_a_bridge_that_was_deleted_and_made_anew_gets_its_ports_and_tags_at_once(site):
    for pause_s in (0.0, 0.7):
        site.delete_bridge()
        time.sleep(pause_s)
        if pause_s:
            site.app.wait_until(
                lambda: "alubr0" in site.app.status()["components"]["vrs"]["problem"],
                what="the name of what is missing",
            )
        site.add_bridge()
        site.wait_restored()
    site.works()


def test_a_container_that_starts_without_a_bridge_is_plugged_when_it_comes(site):
    site.delete_bridge()
    late = site.engine.run("late", site.network_id)
    other = site.engine.network_create(
        "other",
        subnet="10.21.58.0/24",
        options={
            "organization": "Enterprise",
            "domain": "Domain",
            "zone": "Zone",
            "subnet": "Subnet 1",
            "user": "admin",
        },
    )
    site.add_bridge()
    site.host.wait_attached(*site.endpoints, late, seconds=_AT_ONCE_S)
    site.app.wait_until(
        lambda: (
            set(site.ours()["tags"]) == {f"nuage-network-{one}" for one in (site.network_id, other)}
        ),
        _AT_ONCE_S,
        "both tags",
    )


def test_the_appliance_starts_without_a_bridge_and_plugs_when_it_comes(site):
    site.delete_bridge()
    site.host.restart(wait=False)
    site.app.wait_until(
        lambda: "no bridge alubr0" in site.app.status()["components"]["vrs"]["problem"],
        what="the name of what is missing",
    )
    site.app.wait_until(
        lambda: not site.app.status()["components"]["vsd"]["problem"], what="the VSD"
    )
    site.add_bridge()
    site.wait_restored(_RECONNECT_S)
    site.works()


# -- another database ----------------------------------------------------------------------------


def _fill(site, system_id=SYSTEM_ID):
    """What the VRS's own start writes into an empty database."""
    operations = [
        *Ovsdb.bridge_operations(),
        {
            "op": "insert",
            "table": "Open_vSwitch",
            "row": {
                "bridges": ["named-uuid", "b0"],
                **({"external_ids": ["map", [["system-id", system_id]]]} if system_id else {}),
            },
        },
    ]
    site.ovsdb.transact(*operations)


def test_a_wiped_database_is_filled_again(site):
    site.ovsdb.stop()
    site.ovsdb.wipe()
    site.ovsdb.start()
    _fill(site)
    site.wait_restored(_RECONNECT_S)
    site.works()


def test_an_older_database_is_brought_up_to_date(site):
    """A backup from before one container was stopped and another was started."""
    stopped, endpoint = site.port_name(1), site.endpoints[1]
    backup = site.ovsdb.directory / "backup"
    site.ovsdb.stop()
    shutil.copy(site.ovsdb.directory / "db", backup)
    site.app.wait_until(
        lambda: site.app.status()["components"]["vrs"]["problem"], _AT_ONCE_S, "that it is noticed"
    )
    site.ovsdb.start()
    site.app.wait_until(
        lambda: not site.app.status()["components"]["vrs"]["problem"],
        _RECONNECT_S,
        "the connection",
    )
    site.engine.stop(endpoint)
    site.endpoints[1] = site.engine.run("younger", site.network_id)
    site.host.wait_attached(*site.endpoints)
    site.expected = site.ours()
    site.ovsdb.stop()
    shutil.copy(backup, site.ovsdb.directory / "db")
    site.ovsdb.start()
    site.host.wait_attached(*site.endpoints, seconds=_RECONNECT_S)
    site.audit_until(lambda: site.ours() == site.expected, f"the end of port {stopped}")
    site.works()


@pytest.fixture
def nameless(hosts):
    """A host whose external id is made from the VRS's system id, as it is without `hostid`."""
    host = hosts(hostid="")
    host.name = host.appliance.status()["host_id"]
    return Site(host)


@pytest.mark.parametrize(
    "is_restarted", [False, True], ids=["the appliance lives on", "the appliance is restarted too"]
)
@pytest.mark.parametrize(
    "system_id",
    ["9f8e7d6c-0000-4000-8000-123456789abc", ""],
    ids=["another system id", "no system id"],
)
def test_a_wiped_database_with_another_system_id_orphans_no_container(
    nameless, system_id, is_restarted
):
    site, before = nameless, nameless.host.containers()
    assert site.host.name.endswith(SYSTEM_ID) and len(before) == 2
    site.ovsdb.stop()
    site.ovsdb.wipe()
    if is_restarted:
        site.app.kill()
    site.ovsdb.start()
    _fill(site, system_id)
    if is_restarted:
        site.host.restart()
    site.wait_restored(_RECONNECT_S)
    site.works()
    for endpoint in site.endpoints:
        site.engine.stop(endpoint)
    site.engine.network_rm(site.network_id)
    site.host.wait_clean()
    assert site.host.addresses() == []
