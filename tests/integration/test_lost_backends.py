"""Backends that lose what they knew: the VRS's database, its bridge, its rows; an engine that
ends, dies, or stands still.

What is asserted is that containers keep or get back their network, how soon, and that what others
own is not touched.
"""

import datetime
import json
import re
import signal
import time

import pytest

from nuage_lab.hosts.run import wait_until
from nuage_lab.vrs import switch
from tests.support.convergence import BRIDGE, TAG, Ping, foreign, status, tags, wait_whole_agreement
from tests.support.docker_cli import create, run
from tests.support.invariants import address_of, engine_endpoints, rows, wait_agreement, wait_ping
from tests.support.lab import running_lab

# promised are seconds; the lab's own programs need some of them on a busy machine; an audit comes
# every 30 s
RESTORED_S = 20.0
IN_TIME_S = 60.0  # what only has to happen
DATABASE_COPY = "/tmp/older.db"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """h1, which the tests change, and h2 with frequent audits, where an older database is put back
    at the start.
    """
    with running_lab(tmp_path_factory.mktemp("backends"), hosts=2) as lab:
        yield lab


@pytest.fixture(scope="module")
def older_copy(hosts):
    """On h2: a copy of the database is put back that has a container which is gone, and lacks one
    that came. Returns when.
    """
    host = hosts.host("h2")
    host.write_config(hosts.ca_file, auditinterval=10)
    host.appliance.signal(signal.SIGHUP)
    create(host, "MyNet", subnet="Subnet 1")
    for name in ("stays", "goes"):
        run(host, name, "MyNet")
    wait_agreement(hosts, host)
    host.exec(["cp", switch.DATABASE, DATABASE_COPY])
    host.docker("rm", "-f", "goes")
    run(host, "comes", "MyNet")
    wait_agreement(hosts, host)
    host.database.stop()
    host.exec(["cp", DATABASE_COPY, switch.DATABASE])
    host.database.start()
    return time.monotonic()


@pytest.fixture(scope="module")
def boxes(hosts):
    """Two containers on h1 that come back with their engine, and things of others in the
    database.
    """
    host = hosts.host("h1")
    create(host, "MyNet")
    for name in ("box-a", "box-b"):
        run(host, name, "MyNet", "--restart=always")
    put_foreign(host)
    wait_whole_agreement(hosts, host, IN_TIME_S, audits=False)
    return host


@pytest.fixture()
def h1(hosts, boxes):
    """h1 as every test finds it, and leaves it."""
    yield boxes
    others = [
        name
        for name in boxes.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()
        if not name.startswith("box-")
    ]
    if others:
        boxes.docker("rm", "-f", *others)
    wait_whole_agreement(hosts, boxes, IN_TIME_S, audits=False)
    assert {name for _, name, *_ in engine_endpoints(boxes)} == {"box-a", "box-b"}
    wait_ping(boxes, "box-a", address_of(boxes, "box-b", "MyNet"))


def put_foreign(host):
    """Ports, bridge keys and rows of others, beside ours."""
    host.exec(
        [
            "ovs-vsctl",
            "--timeout=30",
            "--may-exist",
            "add-br",
            "br-other",
            "--",
            "set",
            "Bridge",
            "br-other",
            "datapath_type=netdev",
            "--",
            "--may-exist",
            "add-port",
            BRIDGE,
            "other0",
            "--",
            "set",
            "Interface",
            "other0",
            "type=internal",
            "external_ids:vm_uuid=other",
            "--",
            "set",
            "Bridge",
            BRIDGE,
            "external_ids:nuage-other=1",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            "external_ids:zz-other=1",
            "--",
            "--may-exist",
            "add-port",
            "br-other",
            "other1",
            "--",
            "set",
            "Interface",
            "other1",
            "type=internal",
        ]
    )
    if not any(name == "other-vm-port" for (name,) in rows(host, "Nuage_Port_Table", "name")):
        transact(
            host,
            {
                "op": "insert",
                "table": "Nuage_Port_Table",
                "row": {"name": "other-vm-port", "mac": "7a:00:00:00:00:01", "bridge": BRIDGE},
            },
            {
                "op": "insert",
                "table": "Nuage_VM_Table",
                "row": {"vm_uuid": "other-vm", "vm_name": "other", "ports": "other-vm-port"},
            },
        )


def transact(host, *operations):
    """One transaction, which must succeed."""
    answer = json.loads(
        host.exec(
            [
                "ovsdb-client",
                "transact",
                f"unix:{switch.DATABASE_SOCKET}",
                json.dumps(["Open_vSwitch", *operations]),
            ]
        ).stdout
    )
    assert not [result for result in answer if result and "error" in result], answer


def find_port(host, container):
    """The name of a container's port and the UUID of its entity."""
    entities = {
        name: (port, uuid)
        for name, port, uuid in rows(host, "Nuage_VM_Table", "vm_name", "ports", "vm_uuid")
    }
    return entities[container]


def plugged_at(host, container):
    """When the appliance plugged a container last, by its log, in seconds of the wall clock."""
    times = re.findall(
        rf"\|(\S+ \S+ \+0000) UTC\|\w+\|\d+\|[^|]*\|plugged container {container} ",
        host.appliance.tail(10_000_000),
    )
    return datetime.datetime.strptime(times[-1], "%Y-%m-%d %H:%M:%S.%f %z").timestamp()


def check_restored(hosts, host):
    """All of ours is there again within RESTORED_S, and containers reach each other."""
    wait_whole_agreement(hosts, host, RESTORED_S, audits=False)
    wait_ping(host, "box-a", address_of(host, "box-b", "MyNet"))


# -- the VRS -------------------------------------------------------------------------------------


def test_what_an_older_copy_of_the_database_lacks_is_restored_at_once(hosts, older_copy):
    host = hosts.host("h2")
    # An audit comes every ten.
    wait_until(
        lambda: any(name == "comes" for (name,) in rows(host, "Nuage_VM_Table", "vm_name")),
        8.0,
        "the rows of 'comes' are back",
    )
    wait_ping(host, "comes", address_of(host, "stays", "MyNet"))
    assert "goes" in {name for (name,) in rows(host, "Nuage_VM_Table", "vm_name")}, (
        "the copy has what is to be taken away later"
    )


def test_a_database_made_anew_gets_everything_of_ours_back_within_seconds(hosts, h1):
    before = foreign(h1)
    h1.database.stop()
    h1.exec(["rm", switch.DATABASE])
    switch.start(h1)
    switch.add_tunnel_port(h1)
    try:
        check_restored(hosts, h1)
        assert ("other0", "internal", []) not in foreign(h1)["Interface"], (
            "the database is a new one"
        )
    finally:
        put_foreign(h1)
    assert foreign(h1) == before


@pytest.mark.parametrize(
    "kinds", [("port row",), ("entity",), ("port",), ("port row", "entity", "port")], ids="+".join
)
def test_what_somebody_deletes_of_a_container_is_back_in_two_seconds(hosts, h1, kinds):
    before = foreign(h1)
    port, entity = find_port(h1, "box-a")
    port_id = next(uuid for name, uuid in rows(h1, "Port", "name", "_uuid") if name == port)
    deletions = {
        "port row": {"op": "delete", "table": "Nuage_Port_Table", "where": [["name", "==", port]]},
        "entity": {"op": "delete", "table": "Nuage_VM_Table", "where": [["vm_uuid", "==", entity]]},
        # With its port goes its interface: the database keeps only what something refers to.
        "port": {
            "op": "mutate",
            "table": "Bridge",
            "where": [],
            "mutations": [["ports", "delete", ["set", [port_id]]]],
        },
    }
    started = time.time()
    transact(h1, *(deletions[kind] for kind in kinds))
    deleted = time.time()
    check_restored(hosts, h1)
    assert started - 0.001 <= plugged_at(h1, "box-a") < deleted + 2.0
    assert foreign(h1) == before


def test_the_tag_of_a_network_that_somebody_deletes_is_back_after_an_audit(hosts, h1):
    before = foreign(h1)
    (network,) = tags(h1)
    h1.exec(["ovs-vsctl", "remove", "Bridge", BRIDGE, "external_ids", TAG + network])
    h1.appliance.signal(signal.SIGUSR2)
    wait_until(lambda: tags(h1) == {network}, RESTORED_S, "the tag is back")
    assert foreign(h1) == before


def test_a_bridge_that_is_deleted_and_made_again_gets_our_ports_back_within_seconds(hosts, h1):
    before = foreign(h1)
    h1.exec(["ovs-vsctl", "--timeout=30", "del-br", BRIDGE])
    wait_until(
        lambda: f"no bridge {BRIDGE}" in status(h1)["components"]["vrs"]["problem"],
        RESTORED_S,
        "the status says that the bridge is missing",
    )
    time.sleep(4.0)  # several attempts fail meanwhile
    h1.exec(
        [
            "ovs-vsctl",
            "--timeout=30",
            "add-br",
            BRIDGE,
            "--",
            "set",
            "Bridge",
            BRIDGE,
            "datapath_type=netdev",
            "fail_mode=secure",
        ]
    )
    switch.add_tunnel_port(h1)
    try:
        check_restored(hosts, h1)
    finally:
        put_foreign(h1)
    assert foreign(h1) == before
    assert status(h1)["components"]["vrs"]["problem"] == ""


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_an_ovsdb_server_that_goes_is_noticed_and_followed_and_no_packet_is_lost(hosts, h1, how):
    before = foreign(h1)
    with Ping(h1, "box-a", address_of(h1, "box-b", "MyNet"), interval_s=0.4) as ping:
        getattr(h1.database, how)()
        assert h1.path(switch.DATABASE_SOCKET).exists() == (how == "kill")
        wait_until(
            lambda: status(h1)["components"]["vrs"]["problem"],
            RESTORED_S,
            "the status says that the OVSDB is away",
        )
        run(h1, "late", "MyNet")
        h1.database.start()
        wait_until(
            lambda: not status(h1)["components"]["vrs"]["problem"],
            RESTORED_S,
            "the OVSDB is followed again",
        )
        wait_whole_agreement(hosts, h1, RESTORED_S, audits=False)
        sent, lost = ping.end()
    assert lost == [] and sent >= 5, ping.said
    wait_ping(h1, "late", address_of(h1, "box-a", "MyNet"))
    assert foreign(h1) == before


# -- the appliance -------------------------------------------------------------------------------


def test_no_packet_is_lost_when_the_appliance_ends_in_order_and_is_started_again(hosts, h1):
    with Ping(h1, "box-a", address_of(h1, "box-b", "MyNet")) as ping:
        h1.appliance.stop()
        time.sleep(0.5)
        h1.appliance.start()
        run(h1, "late", "MyNet")
        sent, lost = ping.end()
    assert lost == [] and sent >= 10, ping.said
    wait_whole_agreement(hosts, h1, RESTORED_S, audits=False)


# -- the engine ----------------------------------------------------------------------------------


@pytest.fixture()
def live_restore(h1):
    """The engine's containers outlive it."""
    set_live_restore(h1, "true")
    yield h1
    set_live_restore(h1, "false")


def set_live_restore(host, word):
    host.path("/etc/docker/daemon.json").write_text(f'{{"live-restore": {word}}}')
    host.engine.signal(signal.SIGHUP)
    wait_until(
        lambda: host.docker("info", "-f", "{{.LiveRestoreEnabled}}").stdout.strip() == word,
        IN_TIME_S,
        f"live-restore is {word}",
    )


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_containers_that_outlive_their_engine_lose_no_packet_and_what_died_meanwhile_is_cleaned_up(
    hosts, live_restore, how
):
    host = live_restore
    for name in ("dies", "stays"):
        run(host, name, "MyNet")
    wait_agreement(hosts, host)
    addresses = {name: address for _, name, address, _ in engine_endpoints(host) if name != "dies"}
    pid = host.docker("inspect", "-f", "{{.State.Pid}}", "dies").stdout.strip()
    with Ping(host, "box-a", addresses["box-b"]) as ping:
        getattr(host.engine, how)()
        host.exec(["kill", "-9", pid])
        host.engine.start()
        wait_whole_agreement(hosts, host, IN_TIME_S, audits=False)
        sent, lost = ping.end()
    assert lost == [] and sent >= 10, ping.said
    assert {name: address for _, name, address, _ in engine_endpoints(host)} == addresses


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_containers_that_start_with_their_engine_wait_for_an_appliance_that_starts_later(
    hosts, h1, how
):
    getattr(h1.engine, how)()
    h1.appliance.stop()
    h1.engine.start(wait=False)
    time.sleep(3.0)  # it looks for the sockets, and waits
    assert not (h1.path("/run/docker/plugins/nuage.sock")).exists()
    h1.appliance.start()
    h1.engine.wait_ready()
    wait_until(lambda: len(engine_endpoints(h1)) == 2, IN_TIME_S, "the containers run")
    wait_whole_agreement(hosts, h1, IN_TIME_S, audits=False)
    wait_ping(h1, "box-a", "10.21.59.1")


def test_an_engine_that_stands_still_during_an_audit_costs_nobody_anything(hosts, h1):
    length = len(h1.appliance.tail(10_000_000))
    with Ping(h1, "box-a", address_of(h1, "box-b", "MyNet")) as ping:
        h1.engine.signal(signal.SIGSTOP)
        try:
            h1.appliance.signal(signal.SIGUSR2)
            for _ in range(5):
                time.sleep(1.0)
                started = time.monotonic()
                assert status(h1)["components"]["endpoints"]["states"]
                assert time.monotonic() - started < 3.0, "the appliance waits for the engine"
        finally:
            h1.engine.signal(signal.SIGCONT)
        sent, lost = ping.end()
    assert lost == [] and sent >= 20, ping.said
    wait_whole_agreement(hosts, h1, RESTORED_S)
    said = h1.appliance.tail(10_000_000)[length:]
    assert "taken down" not in said and "taken out" not in said and "is deleted" not in said, said


# -- and a minute later --------------------------------------------------------------------------


def test_what_an_older_copy_of_the_database_has_too_much_is_gone_after_the_audit(hosts, older_copy):
    host = hosts.host("h2")
    wait_whole_agreement(
        hosts, host, max(60.0, older_copy + 160.0 - time.monotonic()), audits=False
    )
    assert "goes" not in {name for (name,) in rows(host, "Nuage_VM_Table", "vm_name")}
    assert {name for _, name, *_ in engine_endpoints(host)} == {"stays", "comes"}
    wait_ping(host, "comes", address_of(host, "stays", "MyNet"))
