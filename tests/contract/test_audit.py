"""The audit of a running appliance: what it takes away, what it puts right, and that it does
nothing on half a view.
"""

import itertools
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nuage_appliance.model import DELETED_ALIAS, LinkTag
from tests.support.appliance import PATIENCE_S, ROOT
from tests.support.host import Host
from tests.support.plugin_calls import reserved
from tests.support.shifted_clock import launcher

_GRACE_S = 0.4
# Far apart, because the driver goes on after the highest number that it has seen.
_NUMBERS = itertools.count(0x10000, 0x1000)


@pytest.fixture(scope="module")
def audited_host(simulator):
    made = Host(simulator, "audited", numofretries=2, timeinterval=10, **launcher(grace_s=_GRACE_S))
    yield made
    made.close()


def _stray_port():
    """The name of a port that no endpoint has."""
    return f"nln{next(_NUMBERS):x}-1"


class Site:
    """A host with two running containers, and what can be left over or lost beside them."""

    def __init__(self, host):
        self.host, self.app, self.engine, self.ovsdb = host, host.appliance, host.engine, host.ovsdb
        self.network_id = host.engine.network_create("n")
        self.endpoints = [host.engine.run(f"c{number}", self.network_id) for number in range(2)]
        host.wait_attached(*self.endpoints)
        self.app.wait_until(
            lambda: sorted(one["name"] for one in host.containers()) == ["c0", "c1"],
            what="the names",
        )
        self.clean = self.state()

    def state(self):
        """The host's state and the names of all ports and interfaces."""
        return {
            **self.host.state(),
            "all ports": self.ovsdb.names("Port"),
            "all interfaces": self.ovsdb.names("Interface"),
        }

    def client(self):
        """A client of the VSD."""
        client = self.host.simulator.client()
        client.me()
        return client

    def vsd_container(self, number=0):
        """The VSD container of one of the containers."""
        wanted = self.endpoints[number]["address"].split("/")[0]
        return next(
            (one for one in self.host.containers() if one["interfaces"][0]["IPAddress"] == wanted),
            None,
        )

    def post_container(self, port_name, external_id, address=""):
        """Another container on the VSD, as a lost reply or another host leaves it."""
        client = self.client()
        subnet = self.vsd_subnet_id()
        interface = {
            "name": port_name,
            "MAC": f"02:00:00:00:{os.urandom(1).hex()}:{os.urandom(1).hex()}",
            "attachedNetworkID": subnet,
        }
        uuid = os.urandom(32).hex()
        status, _, body = client.post(
            "/containers",
            {
                "UUID": uuid,
                "name": uuid,
                "externalID": external_id,
                "interfaces": [{**interface, **({"IPAddress": address} if address else {})}],
            },
        )
        client.close()
        assert status == 201, body
        return body[0]["ID"]

    def vsd_subnet_id(self):
        """The id of the network's subnet, from its PoolID."""
        return self.engine.pools[self.network_id][0].rsplit("/", 1)[1]

    def lose_container(self, number=0):
        """Somebody deletes it on the VSD."""
        client = self.client()
        assert (
            client.delete(f"/containers/{self.vsd_container(number)['ID']}?responseChoice=1")[0]
            == 204
        )
        client.close()

    def audit_until(self, condition, what, seconds=PATIENCE_S):
        """Audit until it is so; returns the last outcome."""
        deadline = time.monotonic() + seconds
        while True:
            outcome = self.app.audit()
            if condition():
                return outcome
            assert time.monotonic() < deadline, f"{what}: {outcome}\n{self.app.errors()[-3000:]}"
            time.sleep(0.1)

    def wait_clean(self):
        """Audit until nothing is found and everything is as it was in the beginning."""
        return self.audit_until(lambda: self.state() == self.clean, "as it was")


@pytest.fixture
def site(audited_host):
    """Two running containers; nothing is left in the end."""
    audited_host.begin()
    made = Site(audited_host)
    yield made
    audited_host.simulator.admin("DELETE", "/faults")
    audited_host.api.broken.clear()
    if audited_host.ovsdb.process.poll() is not None:
        audited_host.ovsdb.start()
    audited_host.tear_down()
    made.audit_until(lambda: not audited_host.leftovers(), "clean")
    audited_host.check_log()


# -- leftovers -----------------------------------------------------------------------------------


def _leave_vsd_container(site):
    site.post_container(_stray_port(), site.host.name)


def _leave_second_vsd_container(site):
    """A double of a running endpoint's: same host, same port name."""
    site.post_container(site.endpoints[0]["entity_port"].replace("-2", "-1"), site.host.name)


def _leave_rows(site):
    name = _stray_port()
    site.ovsdb.transact(
        {"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": name}},
        {
            "op": "insert",
            "table": "Port",
            "uuid-name": "p",
            "row": {"name": name, "interfaces": ["named-uuid", "i"]},
        },
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", "alubr0"]],
            "mutations": [["ports", "insert", ["set", [["named-uuid", "p"]]]]],
        },
        {"op": "insert", "table": "Nuage_Port_Table", "row": {"name": name, "bridge": "alubr0"}},
        {"op": "insert", "table": "Nuage_VM_Table", "row": {"vm_uuid": "stray", "ports": name}},
    )


def _leave_entity_row(site):
    site.ovsdb.transact(
        {
            "op": "insert",
            "table": "Nuage_VM_Table",
            "row": {"vm_uuid": "stray", "ports": _stray_port()},
        }
    )


def _leave_port_row(site):
    site.ovsdb.transact(
        {
            "op": "insert",
            "table": "Nuage_Port_Table",
            "row": {"name": _stray_port(), "bridge": "alubr0"},
        }
    )


def _add_link(site, name, alias):
    site.host.ip("link", "add", name, "type", "veth", "peer", "name", name.replace("-1", "-2"))
    site.host.ip("link", "set", name, "alias", alias)


def _leave_link(site):
    _add_link(
        site,
        _stray_port(),
        LinkTag(
            "e" * 64, site.network_id, "10.21.59.200/24", "10.21.59.1", "02:00:00:00:00:01", "gone"
        ).to_alias(),
    )


def _leave_doomed_link(site):
    _add_link(site, _stray_port(), DELETED_ALIAS)


def _leave_tag(site):
    tags = site.ovsdb.rows("Bridge", "external_ids")[0]["external_ids"]
    value = tags[f"nuage-network-{site.network_id}"]
    site.ovsdb.transact(
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", "alubr0"]],
            "mutations": [
                ["external_ids", "insert", ["map", [[f"nuage-network-{'d' * 64}", value]]]]
            ],
        }
    )


def _leave_endpoint(site):
    """The engine lost a container without a call or an event, as after a crash with its state
    restored.
    """
    endpoint = site.engine.setup(site.network_id)
    site.engine.publish({**endpoint, "container_id": "7" * 64, "name": "lost"})
    site.host.wait_attached(*site.endpoints, endpoint)
    del site.host.api.containers["7" * 64]
    del site.host.api.networks[site.network_id]["Containers"]["7" * 64]


LEFTOVERS = {
    "a VSD container": _leave_vsd_container,
    "a second VSD container of an endpoint": _leave_second_vsd_container,
    "a whole port": _leave_rows,
    "an entity's row": _leave_entity_row,
    "a port's row": _leave_port_row,
    "a link": _leave_link,
    "a doomed link": _leave_doomed_link,
    "the tag of a network that is gone": _leave_tag,
    "an endpoint that the engine does not have": _leave_endpoint,
}
# What can be there at one time.
_TOGETHER = (
    "a VSD container",
    "a second VSD container of an endpoint",
    "a whole port",
    "a link",
    "the tag of a network that is gone",
    "an endpoint that the engine does not have",
)


@pytest.mark.parametrize("leave", LEFTOVERS.values(), ids=LEFTOVERS)
def test_a_leftover_is_taken_away_after_three_sightings_and_its_grace(site, leave):
    leave(site)
    left = site.state()
    assert left != site.clean
    for _ in range(2):
        outcome = site.app.audit()
        assert outcome["is_complete"] and outcome["waiting"] and not outcome["repaired"], outcome
    now = site.state()
    assert all(
        now[key] == left[key] for key in ("containers", "ports", "machines", "tags", "links")
    ), "not before the third sighting"
    time.sleep(_GRACE_S + 0.2)
    site.wait_clean()
    assert site.app.audit()["sentence"].endswith("all agree")


def test_foreign_things_that_look_like_leftovers_are_left_alone(site):
    """Another host's container, other drivers' containers under this host's id, devices with nearly
    our names, foreign keys.
    """
    client = site.client()
    foreign, devices = [], ("nlnx-1", "xnln5-1", "nln3eb-1")
    try:
        foreign += [
            site.post_container(_stray_port(), "other-host"),
            site.post_container("eth0", site.host.name),
        ]
        for name in devices[:2]:
            site.host.ip("link", "add", name, "type", "veth", "peer", "name", f"p{name}")
        site.host.ip("link", "add", devices[2], "type", "bridge")
        for _ in range(3):
            assert site.app.audit()["is_complete"]
        time.sleep(_GRACE_S + 0.2)
        for _ in range(2):
            site.app.audit()
        assert all(client.get(f"/containers/{one}")[0] == 200 for one in foreign)
        assert all(site.host.has_link(name) for name in devices)
    finally:
        for one in foreign:
            client.delete(f"/containers/{one}?responseChoice=1")
        for name in devices:
            if site.host.has_link(name):
                site.host.ip("link", "del", name)
        client.close()


def test_a_leftover_that_recovers_in_between_starts_its_grace_anew(site):
    _leave_endpoint(site)
    site.app.audit()
    site.app.audit()
    time.sleep(_GRACE_S + 0.2)
    network, lost = site.host.api.networks[site.network_id], site.state()
    ours = [port for port in lost["ports"] if port not in site.clean["ports"]]
    entry = {
        "Name": "lost",
        "EndpointID": "9" * 64,
        "MacAddress": "",
        "IPv4Address": next(
            one
            for one in site.host.addresses()
            if one not in [end["address"].split("/")[0] for end in site.endpoints]
        )
        + "/24",
    }
    network["Containers"]["7" * 64] = entry
    assert site.app.audit()["waiting"] == 0, "the engine has its place again"
    del network["Containers"]["7" * 64]
    for _ in range(2):
        assert site.app.audit()["repaired"] == 0
    assert set(ours) <= set(site.state()["ports"])
    time.sleep(_GRACE_S + 0.2)
    site.wait_clean()


# -- lost ----------------------------------------------------------------------------------------


def test_a_vsd_container_lost_under_a_running_endpoint_is_made_anew_with_its_address_and_plugged(
    site,
):
    before = site.vsd_container()
    site.lose_container()
    site.audit_until(
        lambda: site.vsd_container() is not None and site.vsd_container()["name"] == "c0",
        "the container",
    )
    after = site.vsd_container()
    assert after["ID"] != before["ID"]
    assert {key: after["interfaces"][0][key] for key in ("IPAddress", "MAC")} == {
        key: before["interfaces"][0][key] for key in ("IPAddress", "MAC")
    }
    assert (after["UUID"], after["name"]) == (before["UUID"], "c0")
    site.audit_until(
        lambda: (
            site.state()["ports"] == site.clean["ports"]
            and site.state()["states"] == site.clean["states"]
        ),
        "the port",
    )
    assert [
        row["vm_uuid"]
        for row in site.ovsdb.rows("Nuage_VM_Table", "vm_uuid", "ports")
        if row["ports"] == site.clean["ports"][0]
    ]
    assert site.app.audit()["sentence"].endswith("all agree")


def test_a_vsd_container_lost_while_the_appliance_was_down_is_made_anew_too(site):
    before = site.vsd_container()
    site.app.kill()
    site.lose_container()
    site.host.restart()
    site.audit_until(
        lambda: site.vsd_container() is not None and site.vsd_container()["name"] == "c0",
        "the container",
    )
    after = site.vsd_container()
    assert {key: after["interfaces"][0][key] for key in ("IPAddress", "MAC")} == {
        key: before["interfaces"][0][key] for key in ("IPAddress", "MAC")
    }
    site.host.wait_attached(*site.endpoints)


def test_an_address_that_the_vsd_gave_away_meanwhile_is_said_and_not_handed_out(site):
    address = site.endpoints[0]["address"].split("/")[0]
    site.lose_container()
    thief = site.post_container("tap7", "other-host", address)
    try:
        outcome = site.app.audit()
        assert outcome["failed"] == 1, outcome
        assert (
            address in site.app.errors()
            and site.endpoints[0]["entity_port"].replace("-2", "-1") in site.app.errors()
        )
        assert address in json.dumps(site.app.status()["components"]["endpoints"]), (
            "the status says it as long as it is so"
        )
        assert reserved(site.host, site.network_id).split("/")[0] != address
        client = site.client()
        assert client.get(f"/containers/{thief}")[0] == 200
    finally:
        client = site.client()
        client.delete(f"/containers/{thief}?responseChoice=1")
        client.close()
    site.audit_until(
        lambda: site.vsd_container() is not None, "the container, once its address is free again"
    )


def test_an_address_that_still_runs_here_is_not_handed_out_although_the_vsd_offers_it(site):
    """Between the loss and the next audit the VSD would give the address to the next container."""
    used = {endpoint["address"] for endpoint in site.endpoints}
    site.lose_container(0)
    site.lose_container(1)
    fresh = {reserved(site.host, site.network_id) for _ in range(4)}
    assert len(fresh) == 4 and not fresh & used
    site.audit_until(
        lambda: site.vsd_container(0) is not None and site.vsd_container(1) is not None,
        "both containers",
    )


def test_a_vsd_container_that_somebody_renamed_bears_its_name_again(site):
    client = site.client()
    client.put(f"/containers/{site.vsd_container()['ID']}?responseChoice=1", {"name": "somebody"})
    client.close()
    site.audit_until(lambda: site.vsd_container()["name"] == "c0", "the name")


def test_a_link_lost_under_a_running_endpoint_is_said_with_what_to_do(site):
    name = site.endpoints[0]["entity_port"].replace("-2", "-1")
    site.host.ip("link", "del", name)
    outcome = site.app.audit()
    assert outcome["failed"] == 1 and outcome["found"] == 1, outcome
    assert name in site.app.errors() and "restart its container" in site.app.errors()


# -- half a view ---------------------------------------------------------------------------------

_NAMES_OF = {"vsd": "the VSD at ", "engine": "the Docker engine at ", "vrs": "OVSDB"}
HALF_VIEWS = {
    **{
        f"VSD: {action}": ("vsd", action)
        for action in ("lose", "repeat", "empty", "malformed", "503", "reset")
    },
    **{
        f"engine: {path} {what}": ("engine", (path, what))
        for path in ("/containers/json", "/networks", "/networks/")
        for what in ("half", "bare", "chunked half", "500")
    },
    "engine: away": ("engine", "away"),
    "OVSDB: away": ("vrs", "away"),
}


@pytest.mark.parametrize("who, what", HALF_VIEWS.values(), ids=HALF_VIEWS)
def test_on_an_incomplete_list_nothing_is_taken_away_and_the_reason_is_said(site, who, what):
    for leave in ("a VSD container", "a whole port", "a link", "the tag of a network that is gone"):
        LEFTOVERS[leave](site)
    site.app.audit()
    site.app.audit()
    time.sleep(_GRACE_S + 0.2)  # the third sighting would take all of it away
    left = site.state()
    if who == "vsd":
        site.host.simulator.admin(
            "POST", "/faults", {"method": "GET", "path": "/containers$", "count": 0, "action": what}
        )
    elif who == "vrs":
        site.ovsdb.stop()
        site.app.wait_until(
            lambda: site.app.status()["components"]["vrs"]["problem"], what="that it is noticed"
        )
    elif what == "away":
        site.host.api.stop()
    else:
        site.host.api.broken[what[0]] = what[1]
    for _ in range(3):
        outcome = site.app.audit()
        assert not outcome["is_complete"] and outcome["repaired"] == 0, outcome
        assert (
            "nothing is taken away" in outcome["sentence"] and _NAMES_OF[who] in outcome["sentence"]
        ), outcome
        assert outcome["sentence"] == site.app.status()["components"]["audit"]["last"]
    site.host.simulator.admin("DELETE", "/faults")
    site.host.api.broken.clear()
    if who == "vrs":
        site.ovsdb.start()
        site.app.wait_until(
            lambda: not site.app.status()["components"]["vrs"]["problem"], what="the connection"
        )
    if what == "away" and who == "engine":
        site.host.api.start()
    now = site.state()
    assert all(
        now[key] == left[key] for key in ("containers", "ports", "machines", "tags", "links")
    )
    site.wait_clean()


# -- the command ---------------------------------------------------------------------------------


def _audit_command(host, timeout_s=120):
    return host.namespace.run(
        subprocess.run,
        host.appliance.command("-audit"),
        cwd=ROOT,
        env=host.appliance.environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


@pytest.fixture(params=[True, False], ids=["an appliance is running", "none is running"])
def commanded(request, site):
    """A site whose appliance is running or not while the command is given; it runs again in the
    end.
    """
    if not request.param:
        assert site.app.kill(signal.SIGTERM) == 0
    yield site
    if not request.param:
        site.host.restart()
        site.host.wait_attached(*site.endpoints)


def test_the_command_ends_with_0_when_all_agrees(commanded):
    done = _audit_command(commanded.host)
    assert done.returncode == 0 and done.stdout.strip().endswith("all agree"), (
        done.stdout,
        done.stderr[-2000:],
    )
    assert len(done.stdout.splitlines()) == 1


def test_the_command_puts_right_what_needs_no_grace_and_ends_with_0(commanded):
    commanded.lose_container()
    done = _audit_command(commanded.host)
    assert done.returncode == 0, (done.stdout, done.stderr[-2000:])
    assert "1 repaired" in done.stdout and commanded.vsd_container()["name"] == "c0"


@pytest.mark.parametrize("fault", ["the VSD", "the engine"])
def test_the_command_ends_with_1_when_somebody_cannot_be_read(commanded, fault):
    if fault == "the VSD":
        commanded.host.simulator.admin(
            "POST",
            "/faults",
            {"method": "GET", "path": "/containers$", "count": 0, "action": "503"},
        )
    else:
        commanded.host.api.broken["/containers/json"] = "half"
    started = time.monotonic()
    done = _audit_command(commanded.host)
    assert (
        done.returncode == 1
        and "nothing is taken away" in done.stdout
        and _NAMES_OF["vsd" if fault == "the VSD" else "engine"] in done.stdout
    )
    assert time.monotonic() - started < 40
    commanded.host.simulator.admin("DELETE", "/faults")
    commanded.host.api.broken.clear()


def test_the_command_ends_with_1_when_something_remains(commanded):
    commanded.host.ip("link", "del", commanded.endpoints[0]["entity_port"].replace("-2", "-1"))
    done = _audit_command(commanded.host)
    assert done.returncode == 1 and "1 failed" in done.stdout, (done.stdout, done.stderr[-2000:])


# -- real time -----------------------------------------------------------------------------------


def test_three_sightings_and_a_minute_awake_in_real_time(hosts):
    """Three hosts at once, each with every kind of leftover.

    One is audited all the time, one is suspended for a minute, for one the command is given while
    no appliance is running.
    """
    watched, suspended, alone = sites = [
        Site(hosts(f"real-{name}")) for name in ("watched", "suspended", "alone")
    ]
    for site in sites:
        for leave in _TOGETHER:
            LEFTOVERS[leave](site)
        site.left = site.state()
    pool = {key: suspended.engine.pools[suspended.network_id][key] for key in (0, 1)}
    address = reserved(suspended.host, suspended.network_id)
    started = time.monotonic()
    for site in (watched, suspended):
        for _ in range(3):
            assert site.app.audit()["waiting"] >= len(_TOGETHER)
    alone.app.kill()
    command = alone.host.namespace.run(
        subprocess.Popen,
        alone.app.command("-audit"),
        cwd=ROOT,
        env=alone.app.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    suspended.app.process.send_signal(signal.SIGSTOP)
    try:
        missed = dict(suspended.endpoints[1])
        _same(watched, watched.left, "three sightings within a second")
        while time.monotonic() - started < 57:
            assert watched.app.audit()["repaired"] == 0
            time.sleep(3)
        _same(watched, watched.left, "many sightings in less than a minute")
        while time.monotonic() - started < 61.5:
            time.sleep(0.2)
    finally:
        suspended.app.process.send_signal(signal.SIGCONT)
    watched.audit_until(lambda: watched.state() == watched.clean, "as it was", 20)

    # The suspended one has seen everything thrice, more than a minute ago, but was not awake for a
    # minute.
    for _ in range(3):
        outcome = suspended.app.audit()
        assert outcome["is_complete"] and outcome["repaired"] == 0, outcome
    now = suspended.state()
    assert all(now[key] == suspended.left[key] for key in ("ports", "machines", "tags", "links"))
    assert missed["address"].split("/")[0] in suspended.host.addresses()
    body = {
        "NetworkID": suspended.network_id,
        "EndpointID": "6" * 64,
        "Options": {},
        "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
    }
    assert suspended.engine.network.call("NetworkDriver.CreateEndpoint", body)["Interface"][
        "MacAddress"
    ], "a reservation outlives the suspension"
    suspended.engine.network.call("NetworkDriver.DeleteEndpoint", body)
    suspended.engine.ipam.call(
        "IpamDriver.ReleaseAddress", {"PoolID": pool[0], "Address": address.split("/")[0]}
    )
    later = suspended.engine.run("later", suspended.network_id)
    suspended.host.wait_attached(*suspended.endpoints, later)
    assert "did not run for" in suspended.app.errors() or "suspended" in suspended.app.errors()

    text = command.communicate(timeout=120)[0]
    assert command.returncode == 0, text
    assert time.monotonic() - started > 60
    alone.host.restart()
    alone.host.wait_attached(*alone.endpoints)
    alone.app.wait_until(lambda: alone.state() == alone.clean, what="as it was")


def _same(site, before, why):
    now = site.state()
    assert all(
        now[key] == before[key] for key in ("containers", "ports", "machines", "tags", "links")
    ), why


@pytest.mark.parametrize(
    "method, path",
    [("GET", "/containers/"), ("POST", "/containers$")],
    ids=["it is looked for", "it is made anew"],
)
def test_an_endpoint_that_ends_while_its_container_is_recovered_does_not_come_back(
    own_host, method, path
):
    site = Site(own_host)
    site.lose_container()
    own_host.simulator.admin(
        "POST",
        "/faults",
        {"method": method, "path": path, "count": 1, "action": "delay", "seconds": 2},
    )
    with ThreadPoolExecutor(1) as pool:
        audit = pool.submit(site.app.audit)
        site.app.wait_until(
            lambda: own_host.simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1,
            what="the recovery",
        )
        site.engine.stop(site.endpoints[0])
        assert not audit.done()
        assert audit.result()["is_complete"]
    own_host.simulator.admin("DELETE", "/faults")
    site.engine.stop(site.endpoints[1])
    site.engine.network_rm(site.network_id)
    own_host.wait_clean()
