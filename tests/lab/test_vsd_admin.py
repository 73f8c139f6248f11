"""The VSD simulator's switches, bulk calls, events, admin interface, and its process."""

import re
import threading
import time
import uuid

import pytest

from tests.support.vsd import VsdSimulator
from tests.support.vsd_objects import container, created, eventually

# -- switches, bulk, events -----------------------------------------------------------------------


def test_a_demanded_confirmation_is_a_300_until_the_choice_is_made(vsd, root, seed):
    made = created(root, container(seed.subnet("Subnet 2")))
    vsd.admin("POST", "/config", {"demand_confirmation": True})
    status, _, body = root.delete(f"/containers/{made['ID']}")
    assert status == 300 and [choice["id"] for choice in body["choices"]] == [1, 0]
    groups = f"/vports/{made['interfaces'][0]['VPortID']}/policygroups"
    web = seed.group("Web")["ID"]
    assert root.put(groups, [web])[0] == 300 and root.get(groups)[2] is None
    assert root.put(groups + "?responseChoice=1", [web])[0] == 204
    assert root.put(f"/policygroups/{web}", {"description": "x"})[0] == 300
    assert root.delete(f"/containers/{made['ID']}?responseChoice=1")[0] == 204


def test_maintenance_refuses_changes_and_allows_reads(vsd, root, seed):
    body = container(seed.subnet("Subnet 2"))
    assert vsd.admin("POST", "/config", {"maintenance": True})["maintenance"] is True
    assert root.post("/containers", body)[0] == 409
    assert root.get("/enterprises")[0] == 200
    vsd.admin("POST", "/config", {"maintenance": False})
    assert root.post("/containers", body)[0] == 201


def test_bulk_calls_answer_for_each_object(root, seed):
    made = [created(root, container(seed.subnet("Subnet 2"))) for _ in range(2)]
    unknown = str(uuid.uuid4())
    items = [{"ID": made[0]["ID"], "name": "a"}, {"ID": unknown, "name": "b"}]
    status, _, body = root.put("/containers/?responseChoice=1", items)
    assert status == 200 and [one["status"] for one in body["response"]] == [204, 404]
    assert body["responseMetadata"]["failure"] == 1
    query = "&".join(f"id={one}" for one in [made[0]["ID"], made[1]["ID"], unknown])
    body = root.delete(f"/containers/?responseChoice=1&{query}")[2]
    assert [one["status"] for one in body["response"]] == [204, 204, 404]
    assert root.get("/containers")[2] is None


def test_events_are_resumed_without_loss_and_an_unknown_uuid_is_a_400(vsd, root, seed):
    vsd.admin("POST", "/config", {"event_timeout_s": 0.05})
    mark = root.get("/events")[2]["uuid"]
    vsd.admin("POST", "/config", {"event_timeout_s": 5, "event_max": 2})
    made = created(root, container(seed.subnet("Subnet 2")))
    assert root.delete(f"/containers/{made['ID']}")[0] == 204
    told = []
    while ("DELETE", "container") not in told:
        body = root.get(f"/events?uuid={mark}")[2]
        mark = body["uuid"]
        assert 0 < sum(len(event["entities"]) for event in body["events"]) <= 2
        told += [(event["type"], event["entityType"]) for event in body["events"]]
    vsd.admin("POST", "/config", {"event_max": 100})
    assert [one for one in told if one[1] == "container"] == [
        ("CREATE", "container"),
        ("DELETE", "container"),
    ]
    status, _, body = root.get(f"/events?uuid={uuid.uuid4()}")
    assert status == 400 and body["errors"][0]["property"] == "uuid"


def test_events_of_another_enterprise_are_not_told(vsd, root, seed):
    tenant = vsd.client("admin", "admin", "Other Corp")
    vsd.admin("POST", "/config", {"event_timeout_s": 0.05})
    mark = tenant.get("/events")[2]["uuid"]
    created(root, container(seed.subnet("Subnet 2")))
    created(root, container(seed.subnet("Subnet 2", enterprise="Other Corp")))
    vsd.admin("POST", "/config", {"event_timeout_s": 5})
    body = tenant.get(f"/events?uuid={mark}")[2]
    owners = {
        one["enterpriseName"]
        for event in body["events"]
        if event["entityType"] == "container"
        for one in event["entities"]
    }
    assert owners == {"Other Corp"}


# -- the admin interface --------------------------------------------------------------------------


def test_an_entity_is_resolved_by_exact_uuid_and_mac_in_any_case(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    made = created(root, container(subnet))
    port = made["interfaces"][0]
    assert (
        root.put(
            f"/vports/{port['VPortID']}/policygroups",
            [seed.group("Web")["ID"], seed.group("DB")["ID"]],
        )[0]
        == 204
    )
    answer = vsd.admin("POST", "/vsc/resolve", {"uuid": made["UUID"], "mac": port["MAC"].upper()})
    assert answer.pop("vrf_id") in range(1, 2**31)
    assert answer == {
        "found": True,
        "container_id": made["ID"],
        "interface_id": port["ID"],
        "vport_id": port["VPortID"],
        "name": made["name"],
        "ip": port["IPAddress"],
        "ip6": None,
        "netmask": "255.255.255.0",
        "gateway": "10.21.59.1",
        "gateway_mac": subnet["gatewayMACAddress"],
        "domain": "Domain",
        "zone": "Zone",
        "network": "Subnet 2",
        "subnet_id": subnet["ID"],
        "domain_id": port["domainID"],
        "enterprise": "Enterprise",
        "evpn_id": subnet["vnId"],
        "l2": False,
        "policy_groups": ["DB", "Web"],
    }
    for wrong in (
        {"uuid": made["UUID"].upper(), "mac": port["MAC"]},
        {"uuid": made["UUID"], "mac": "02:ff:ff:ff:ff:ff"},
        {},
    ):
        missing = vsd.admin("POST", "/vsc/resolve", wrong)
        assert missing["found"] is False and missing["reason"]


def test_an_l2_entity_is_resolved_without_a_vrf(vsd, root, seed):
    made = created(root, container(seed.l2domain("L2")))
    answer = vsd.admin(
        "POST", "/vsc/resolve", {"uuid": made["UUID"], "mac": made["interfaces"][0]["MAC"]}
    )
    assert (answer["l2"], answer["vrf_id"], answer["zone"], answer["network"]) == (
        True,
        0,
        None,
        "L2",
    )


def test_a_running_entity_makes_its_container_run_and_a_gone_one_waits_for_deletion(
    vsd, root, seed
):
    made = created(root, container(seed.subnet("Subnet 2")))
    port, vrs_id = made["interfaces"][0], str(uuid.uuid4())
    report = {
        "uuid": made["UUID"],
        "mac": port["MAC"],
        "hypervisor_ip": "192.0.2.7",
        "vrs_id": vrs_id,
    }
    assert vsd.admin("POST", "/vsc/report", {**report, "state": "running"}) == {}
    now, vport = (
        root.get(f"/containers/{made['ID']}")[2][0],
        root.get(f"/vports/{port['VPortID']}")[2][0],
    )
    assert (now["status"], now["reasonType"], now["hypervisorIP"], now["VRSID"]) == (
        "RUNNING",
        "RUNNING_BOOTED",
        "192.0.2.7",
        vrs_id,
    )
    assert (vport["active"], vport["operationalState"], vport["hasAttachedInterfaces"]) == (
        True,
        "UP",
        True,
    )
    vrs = root.get(f"/containers/{made['ID']}/vrss")[2][0]
    assert (vrs["ID"], vrs["address"], vrs["numberOfContainers"]) == (vrs_id, "192.0.2.7", 1)
    assert [one["ID"] for one in root.get(f"/vrss/{vrs_id}/containers")[2]] == [made["ID"]]
    vsd.admin("POST", "/vsc/report", {**report, "state": "gone"})
    assert root.get(f"/containers/{made['ID']}")[2][0]["status"] == "DELETE_PENDING"
    assert root.get(f"/vports/{port['VPortID']}")[2][0]["operationalState"] == "DOWN"
    assert vsd.admin("POST", "/vsc/report", {**report, "uuid": "unknown", "state": "gone"}) == {}
    with pytest.raises(RuntimeError, match=r"400"):
        vsd.admin("POST", "/vsc/report", {**report, "state": "asleep"})


def test_a_gone_entity_is_purged_when_purging_is_on(vsd, root, seed):
    vsd.admin("POST", "/config", {"VMPurgeTime": 0.05})
    made = created(root, container(seed.subnet("Subnet 2")))
    mac = made["interfaces"][0]["MAC"]
    vsd.admin("POST", "/vsc/report", {"uuid": made["UUID"], "mac": mac, "state": "gone"})
    assert eventually(lambda: root.get(f"/containers/{made['ID']}")[0] == 404)


def test_a_container_may_bring_its_own_time_after_which_it_is_purged(vsd, root, seed):
    def gone(**fields):
        made = created(root, {**container(seed.subnet("Subnet 2")), **fields})
        vsd.admin(
            "POST",
            "/vsc/report",
            {"uuid": made["UUID"], "mac": made["interfaces"][0]["MAC"], "state": "gone"},
        )
        return lambda: root.get(f"/containers/{made['ID']}")[0]

    timed, untimed, other = (
        gone(deleteMode="TIMER", deleteExpiry=1),
        gone(deleteMode="TIMER"),
        gone(deleteExpiry=1),
    )
    assert (timed(), untimed(), other()) == (200, 200, 200)
    assert eventually(lambda: timed() == 404)
    assert (untimed(), other()) == (200, 200)


def test_a_container_that_ran_again_meanwhile_is_purged_by_its_second_end_only(vsd, root, seed):
    made = created(
        root, {**container(seed.subnet("Subnet 2")), "deleteMode": "TIMER", "deleteExpiry": 1}
    )
    report = {
        "uuid": made["UUID"],
        "mac": made["interfaces"][0]["MAC"],
        "hypervisor_ip": "192.0.2.7",
        "vrs_id": "vrs-here",
    }
    vsd.admin("POST", "/vsc/report", {**report, "state": "gone"})
    vsd.admin("POST", "/vsc/report", {**report, "state": "running"})
    root.put(f"/containers/{made['ID']}?responseChoice=1", {"deleteExpiry": 600})
    vsd.admin("POST", "/vsc/report", {**report, "state": "gone"})
    time.sleep(1.5)
    assert root.get(f"/containers/{made['ID']}")[2][0]["status"] == "DELETE_PENDING"


def _run(vsd, root, subnet, vrs_id):
    """A container that a VRS has reported as running; returns what asks for its status."""
    made = created(root, container(subnet))
    vsd.admin(
        "POST",
        "/vsc/report",
        {
            "uuid": made["UUID"],
            "mac": made["interfaces"][0]["MAC"],
            "state": "running",
            "hypervisor_ip": "192.0.2.7",
            "vrs_id": vrs_id,
        },
    )
    return lambda: root.get(f"/containers/{made['ID']}")[2][0]["status"]


def test_containers_of_a_lost_vrs_are_unreachable_until_it_is_back(vsd, root, seed):
    here, there = (
        _run(vsd, root, seed.subnet("Subnet 2"), "vrs-here"),
        _run(vsd, root, seed.subnet("Subnet 2"), "vrs-there"),
    )
    waiting = created(root, container(seed.subnet("Subnet 2")))
    assert vsd.admin("POST", "/vsc/vrs", {"vrs_id": "vrs-here", "state": "lost"}) == {}
    assert (here(), there(), root.get(f"/containers/{waiting['ID']}")[2][0]["status"]) == (
        "UNREACHABLE",
        "RUNNING",
        "INIT",
    )
    assert vsd.admin("POST", "/vsc/vrs", {"vrs_id": "vrs-here", "state": "back"}) == {}
    assert (here(), there()) == ("RUNNING", "RUNNING")
    for nonsense in ({"vrs_id": "vrs-here", "state": "asleep"}, {"state": "lost"}):
        with pytest.raises(RuntimeError, match=r"400"):
            vsd.admin("POST", "/vsc/vrs", nonsense)


def test_a_vrs_is_lost_when_its_controller_has_not_polled_for_the_unreachable_time(vsd, root, seed):
    silent, polling = (
        _run(vsd, root, seed.subnet("Subnet 2"), "vrs-silent"),
        _run(vsd, root, seed.subnet("Subnet 2"), "vrs & polling"),
    )
    vsd.admin("POST", "/config", {"VMUnreachableTime": 3})

    def poll():
        vsd.admin("GET", "/vsc/changes?vrs_id=vrs%20%26%20polling")
        return silent() == "UNREACHABLE"

    assert eventually(poll, 30)
    assert polling() == "RUNNING"
    vsd.admin("POST", "/config", {"VMUnreachableTime": 0})
    vsd.admin("GET", "/vsc/changes?vrs_id=vrs-silent&since=0&timeout=0")
    assert silent() == "RUNNING"


def test_a_controller_learns_every_change_in_order(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    since = vsd.admin("GET", "/vsc/changes")["seq"]
    assert vsd.admin("GET", f"/vsc/changes?since={since}&timeout=0.1") == {
        "seq": since,
        "changes": [],
        "lost": False,
    }
    made = created(root, container(subnet))
    assert root.put(f"/containers/{made['ID']}", {"name": "other"})[0] == 204
    assert (
        root.put(
            f"/vports/{made['interfaces'][0]['VPortID']}/policygroups", [seed.group("Web")["ID"]]
        )[0]
        == 204
    )
    assert root.delete(f"/containers/{made['ID']}")[0] == 204
    answer = vsd.admin("GET", f"/vsc/changes?since={since}&timeout=5")
    told = [(one["op"], one["type"]) for one in answer["changes"] if one["type"] == "container"]
    assert told == [("create", "container"), ("update", "container"), ("delete", "container")]
    assert ("update", "vport") in [(one["op"], one["type"]) for one in answer["changes"]]
    assert {one["uuid"] for one in answer["changes"] if one["type"] == "container"} == {
        made["UUID"]
    }
    assert answer["seq"] > since and answer["lost"] is False
    assert vsd.admin("GET", f"/vsc/changes?since={answer['seq']}")["changes"] == []


def test_a_waiting_controller_is_woken_by_a_change(vsd, root, seed):
    subnet, answers = seed.subnet("Subnet 2"), []
    since = vsd.admin("GET", "/vsc/changes")["seq"]
    thread = threading.Thread(
        target=lambda: answers.append(vsd.admin("GET", f"/vsc/changes?since={since}&timeout=20"))
    )
    thread.start()
    made = created(root, container(subnet))
    thread.join(60)
    assert made["ID"] in {one["id"] for one in answers[0]["changes"]}


def test_all_networks_are_listed_for_the_data_plane(vsd, seed):
    networks = vsd.admin("GET", "/vsc/networks")["subnets"]
    assert len({one["evpn_id"] for one in networks}) == len(networks) and all(
        0 < one["evpn_id"] < 2**24 for one in networks
    )
    assert all(one["name"] != "BackHaulSubnet" for one in networks)
    tiny = next(one for one in networks if one["subnet_id"] == seed.subnet("Tiny")["ID"])
    assert (tiny["address"], tiny["netmask"], tiny["gateway"]) == (
        "10.21.60.0",
        "255.255.255.248",
        "10.21.60.1",
    )
    assert {one["name"] for one in networks if one["l2"]} == {"L2", "L2 raw"}
    assert all((one["vrf_id"] == 0) == one["l2"] for one in networks)


def test_requests_are_remembered_and_counted_without_credentials(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    before = vsd.admin("GET", "/requests")["seq"]
    made = created(root, container(subnet))
    root.get("/containers", filter='externalID == "host-1"')
    root.delete(f"/containers/{made['ID']}?responseChoice=1")
    answer = vsd.admin("GET", f"/requests?since={before}")
    seen = [
        (one["method"], one["path"], one["status"], one["user"], one["filter"])
        for one in answer["requests"]
    ]
    assert seen == [
        ("POST", "/containers", 201, "csproot", None),
        ("GET", "/containers", 200, "csproot", 'externalID == "host-1"'),
        ("DELETE", f"/containers/{made['ID']}", 204, "csproot", None),
    ]
    assert answer["seq"] == before + 3 and answer["requests"][-1]["query"] == "responseChoice=1"
    assert root.secret not in str(vsd.admin("GET", "/requests")) and "XREST" not in str(answer)
    counters = vsd.admin("GET", "/counters")
    assert counters["POST /containers"] == 1 and counters["DELETE /containers/*"] == 1
    vsd.admin("POST", "/reset")
    assert vsd.admin("GET", "/counters") == {}


def test_a_reset_brings_the_seed_back_with_the_sameevent_ids(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    made = created(root, container(subnet))
    since = vsd.admin("GET", "/vsc/changes")["seq"]
    vsd.admin("POST", "/reset")
    again = vsd.client()
    assert vsd.admin("GET", "/health") == {"ok": True, "containers": 0}
    now = again.get(f"/subnets/{subnet['ID']}")[2][0]
    assert (now["vnId"], now["gatewayMACAddress"]) == (subnet["vnId"], subnet["gatewayMACAddress"])
    changes = vsd.admin("GET", f"/vsc/changes?since={since}")["changes"]
    assert ("delete", made["ID"]) in {(one["op"], one["id"]) for one in changes}


def test_the_tree_shows_containers_where_they_are_and_no_secret(vsd, root, seed):
    made = created(root, container(seed.subnet("Subnet 2")))
    tree = vsd.admin("GET", "/tree")
    enterprise = next(one for one in tree["enterprises"] if one["name"] == "Enterprise")
    zone = next(one for one in enterprise["domains"][0]["zones"] if one["name"] == "Zone")
    vport = next(one for one in zone["subnets"] if one["name"] == "Subnet 2")["vports"][0]
    assert (
        vport["container"]["uuid"] == made["UUID"]
        and vport["container"]["ip"] == made["interfaces"][0]["IPAddress"]
    )
    assert [one["name"] for one in enterprise["l2domains"]] == ["L2", "L2 raw"]
    assert root.secret not in str(tree)


def test_a_setting_that_makes_no_sense_is_refused_and_nothing_changes(vsd):
    for wrong in (
        {"colour": 1},
        {"allocation": "best"},
        {"maintenance": 1},
        {"latency_ms": -1},
        {"page_max": "many"},
    ):
        with pytest.raises(RuntimeError, match=r"400"):
            vsd.admin("POST", "/config", {"latency_ms": 5, **wrong})
    assert vsd.admin("POST", "/config", {})["latency_ms"] == 0


@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [
        ("page_max", 0, "1 to 1000000000"),
        ("pageSize", 0, "1 to 1000000000"),
        ("maxResponse", 0, "1 to 1000000000"),
        ("event_max", 0, "1 to 1000000000"),
        ("latency_ms", 1e308, "0 to 3600000"),
        ("latency_ms", float("nan"), "0 to 3600000"),
        ("event_timeout_s", float("inf"), "0 to 1000000000"),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused_with_them(vsd, name, value, bounds):
    with pytest.raises(
        RuntimeError, match=re.escape(f"must be a number from {bounds}, not {value}")
    ):
        vsd.admin("POST", "/config", {name: value})


@pytest.mark.parametrize(
    "path", ["/requests?since=x", "/requests?since=-1", "/vsc/changes?since=1_0"]
)
def test_a_number_that_the_admin_interface_cannot_read_is_refused_with_its_name(vsd, path):
    with pytest.raises(
        RuntimeError, match=r"400 .*since must be a whole number that is not negative, not"
    ):
        vsd.admin("GET", path)


# -- the process ----------------------------------------------------------------------------------


def test_the_simulator_ends_cleanly_keeps_its_ca_and_logs_without_credentials(tmp_path):
    log = tmp_path / "requests.jsonl"
    with VsdSimulator(
        "--request-log", str(log), "--san", "vsd.example", "--state-dir", str(tmp_path / "state")
    ) as first:
        authority = (tmp_path / "state" / "ca.pem").read_text()
        client = first.client()
        key = client.me()["APIKey"]
        assert client.get("/enterprises")[0] == 200
        assert first.admin("GET", "/health")["ok"] is True
        client.close()
        assert first.stop() == 0
    assert not first.admin_socket.exists()
    lines = log.read_text().splitlines()
    assert (
        len(lines) == 2
        and '"path":"/me"' in lines[0]
        and key not in log.read_text()
        and "XREST" not in log.read_text()
    )
    with VsdSimulator("--san", "other.example", "--state-dir", str(tmp_path / "state")) as second:
        assert (tmp_path / "state" / "ca.pem").read_text() == authority
        assert second.client().me()["userName"] == "csproot"


def test_a_seed_of_ones_own_replaces_the_packaged_one(tmp_path):
    seed_file = tmp_path / "seed.yaml"
    seed_file.write_text(
        "enterprises:\n"
        "  - {name: CSP, groups: [{name: Root Group, role: CSPROOT}],"
        " users: [{userName: csproot, password: other, groups: [Root Group]}]}\n"
        "  - name: Solo\n"
        "    domains:\n"
        "      - {name: D, zones: [{name: Z, subnets: [{name: S, address: 10.1.0.0, netmask: "
        "255.255.255.0,\n"
        "          vports: [{name: p1, type: CONTAINER}], addressranges: [{minAddress: "
        "10.1.0.9, maxAddress: 10.1.0.9}]}]}]}\n"
    )
    with VsdSimulator("--seed", str(seed_file), "--allocation", "random") as own:
        client = own.client(password="other")
        subnet = client.get("/subnets", filter='name == "S"')[2][0]
        assert [one["name"] for one in client.get(f"/subnets/{subnet['ID']}/vports")[2]] == ["p1"]
        assert created(client, container(subnet))["interfaces"][0]["IPAddress"] == "10.1.0.9"
        client.close()
