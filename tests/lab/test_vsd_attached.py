"""What hangs on any object of the VSD, and what is made when it is asked for (vsd §7.1, §9):
metadata, DHCP options, statistics, event logs, refusals.
"""

import time
import uuid

import pytest

from tests.support.vsd_kinds import made_in
from tests.support.vsd_objects import container, created, interface, refused

# -- what hangs on any object (vsd §9, §7.1) ------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "enterprises",
        "domains",
        "zones",
        "subnets",
        "l2domains",
        "containers",
        "vports",
        "policygroups",
        "users",
    ],
)
def test_metadata_hangs_on_any_object_and_is_listed_there_alone(root, places, word):
    path = f"/{word}/{places[word]}/metadatas"
    made = made_in(root, path, {"name": "n", "blob": "data", "metadataTagIDs": ["t1", "t2"]})
    assert (made["assocEntityID"], made["parentID"]) == (places[word], places[word])
    assert made["assocEntityType"] == made["parentType"]
    assert [one["ID"] for one in root.get(path)[2]] == [made["ID"]]
    assert [one["ID"] for one in root.get("/metadatas", filter="'t2' IN metadataTagIDs")[2]] == [
        made["ID"]
    ]
    above = root.get(f"/enterprises/{places['enterprises']}/metadatas")[2]
    assert above is None or word == "enterprises"
    refused(root.post(path, {"blob": ""}), 409, None)


@pytest.mark.parametrize(
    "body, shown",
    [
        (
            {"actualType": 6, "actualValues": ["10.0.0.1", "10.0.0.2"]},
            ("06", "08", "0a0000010a000002"),
        ),
        (
            {"type": "0F", "length": "0b", "value": "6c61622e6578616d706c65"},
            ("0f", "0b", "6c61622e6578616d706c65"),
        ),
        ({"actualType": 26, "actualValues": ["1450"]}, ("1a", "02", "05aa")),
        ({"type": "03", "value": "0a000001"}, ("03", "04", "0a000001")),
        (
            {"actualType": 15, "actualValues": ["lab.example"]},
            ("0f", "0b", "6c61622e6578616d706c65"),
        ),
    ],
)
def test_both_forms_of_a_dhcp_option_follow_from_each_other(root, places, body, shown):
    made = made_in(root, f"/vports/{places['vports']}/dhcpoptions", body)
    assert (made["type"], made["length"], made["value"]) == shown and made["actualType"] == int(
        shown[0], 16
    )
    assert [
        one["ID"]
        for one in root.get(f"/containerinterfaces/{places['containerinterfaces']}/dhcpoptions")[2]
    ] == [made["ID"]]
    assert (
        root.put(f"/dhcpoptions/{made['ID']}", {"actualType": 42, "actualValues": ["10.0.0.9"]})[0]
        == 204
    )
    now = root.get(f"/dhcpoptions/{made['ID']}")[2][0]
    assert (now["type"], now["value"], now["actualValues"]) == ("2a", "0a000009", ["10.0.0.9"])
    assert root.put(f"/dhcpoptions/{made['ID']}", {"value": "0a000007", "length": "04"})[0] == 204
    assert root.get(f"/dhcpoptions/{made['ID']}")[2][0]["actualValues"] == ["10.0.0.7"]


@pytest.mark.parametrize(
    "body, name",
    [
        ({}, "type"),
        ({"type": "zz"}, "type"),
        ({"type": "06", "value": "abc"}, "value"),
        ({"type": "06", "length": "03", "value": "0a000001"}, "length"),
        ({"actualType": 6, "actualValues": ["nobody"]}, "actualValues"),
        ({"actualType": 26, "actualValues": ["99999"]}, "actualValues"),
        ({"actualType": 300, "actualValues": ["x"]}, "type"),
        ({"actualType": 3, "actualValues": None}, "actualValues"),
        ({"actualType": 26, "actualValues": []}, "actualValues"),
        ({"type": "03"}, "value"),
        ({"actualType": 15, "actualValues": ["x" * 256]}, "actualValues"),
        ({"type": "0f", "value": "61" * 256}, "value"),
    ],
)
def test_a_dhcp_option_that_cannot_be_is_refused(root, places, body, name):
    assert (
        refused(root.post(f"/domains/{places['domains']}/dhcpoptions", body), 409, None)["property"]
        == name
    )


def test_the_system_settings_of_the_contract_are_options_by_their_names(vsd, root, places):
    vsd.admin(
        "POST",
        "/config",
        {"statsNumberOfDataPoints": 5, "statsMaxDataPoints": 6, "DHCPOptionSize": 1},
    )
    path = f"/zones/{places['zones']}"
    assert root.get(f"{path}/statistics")[2][0]["numberOfDataPoints"] == 5
    refused(root.get(f"{path}/statistics?numberOfDataPoints=7"), 409, None)
    made_in(root, f"{path}/dhcpoptions", {"actualType": 15, "actualValues": ["x"]})
    refused(root.post(f"{path}/dhcpoptions", {"actualType": 12, "actualValues": ["x"]}), 409, None)


def test_an_object_takes_16_dhcp_options_and_lists_show_its_own(root, places):
    path = f"/zones/{places['zones']}/dhcpoptions"
    for number in range(16):
        made_in(root, path, {"actualType": 200 + number, "actualValues": ["x"]})
    refused(root.post(path, {"actualType": 15, "actualValues": ["x"]}), 409, None)
    assert root.get(f"/domains/{places['domains']}/dhcpoptions")[2] is None
    made = made_in(
        root,
        f"/subnets/{places['subnets']}/dhcpv6options",
        {"actualType": 23, "actualValues": ["2001:db8::53"]},
    )
    assert (made["type"], made["length"], made["value"][-2:]) == ("0017", "0010", "53")


def test_what_hangs_below_a_deleted_domain_is_gone_too(root, seed):
    domain = seed.domain("Domain B")
    zone = root.get(f"/domains/{domain['ID']}/zones", filter='name == "Zone"')[2][0]
    option = made_in(
        root, f"/zones/{zone['ID']}/dhcpoptions", {"actualType": 15, "actualValues": ["x"]}
    )
    note = made_in(root, f"/dhcpoptions/{option['ID']}/metadatas", {"blob": "x"})
    assert root.delete(f"/domains/{domain['ID']}")[0] == 204
    assert (
        root.get(f"/dhcpoptions/{option['ID']}")[0]
        == 404
        == root.get(f"/metadatas/{note['ID']}")[0]
    )


# -- what is made when it is asked for (vsd §9) ---------------------------------------------------


def test_statistics_count_what_runs_since_it_exists(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    made = created(root, container(subnet))
    port, now = made["interfaces"][0], int(time.time())
    query = (
        f"statistics?startTime={now - 300}&endTime={now + 300}&numberOfDataPoints=60"
        "&metricTypes=BYTES_IN,PACKETS_IN,PACKETS_IN_ERROR"
    )
    idle = root.get(f"/subnets/{subnet['ID']}/{query}")[2][0]
    assert (idle["startTime"], idle["endTime"], idle["numberOfDataPoints"]) == (
        now - 300,
        now + 300,
        60,
    )
    assert (
        set(idle["statsData"]) == {"BYTES_IN", "PACKETS_IN", "PACKETS_IN_ERROR"}
        and idle["statsData"]["BYTES_IN"] == [0] * 60
    )
    vsd.admin(
        "POST",
        "/vsc/report",
        {
            "uuid": made["UUID"],
            "mac": port["MAC"],
            "state": "running",
            "hypervisor_ip": "192.0.2.1",
            "vrs_id": "v1",
        },
    )
    vrs = root.get("/vrss")[2][0]["ID"]
    query = query.replace(
        f"startTime={now - 300}&endTime={now + 300}",
        f"startTime={made['creationDate'] // 1000 + 1}&endTime={now + 3600}",
    )
    deadline = time.monotonic() + 60
    while (
        not any(root.get(f"/subnets/{subnet['ID']}/{query}")[2][0]["statsData"]["BYTES_IN"])
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    for path in (
        f"/subnets/{subnet['ID']}",
        f"/zones/{port['zoneID']}",
        f"/domains/{port['domainID']}",
        f"/vports/{port['VPortID']}",
        f"/containerinterfaces/{port['ID']}",
        f"/vrss/{vrs}",
    ):
        data = root.get(f"{path}/{query}")[2][0]["statsData"]
        assert data["BYTES_IN"][0] > data["PACKETS_IN"][0] > 0 == data["PACKETS_IN_ERROR"][0], path
        assert data["BYTES_IN"][-1] == 0  # the future has no traffic
        assert root.get(f"{path}/{query}")[2][0]["statsData"]["BYTES_IN"][0] == data["BYTES_IN"][0]
    assert not any(
        root.get(f"/subnets/{seed.subnet('Subnet 1')['ID']}/{query}")[2][0]["statsData"]["BYTES_IN"]
    )


@pytest.mark.parametrize(
    "query, name",
    [
        ("metricTypes=LUCK", "metricTypes"),
        ("startTime=5&endTime=5", "startTime"),
        ("startTime=9&endTime=5", "startTime"),
        ("startTime=soon", "startTime"),
        ("numberOfDataPoints=0", "numberOfDataPoints"),
        ("numberOfDataPoints=10001", "numberOfDataPoints"),
    ],
)
def test_statistics_that_cannot_be_are_refused(root, places, query, name):
    assert (
        refused(root.get(f"/zones/{places['zones']}/statistics?{query}"), 409, None)["property"]
        == name
    )


def test_statistics_have_defaults_and_no_list_of_their_own(root, places):
    found = root.get(f"/l2domains/{places['l2domains']}/statistics")[2][0]
    assert (
        found["numberOfDataPoints"] == 30 == len(found["statsData"]["EGRESS_BYTE_COUNT"])
        and len(found["statsData"]) == 13
    )
    assert (
        root.get("/statistics")[0] == 404
        and root.get(f"/policygroups/{places['policygroups']}/statistics")[0] == 404
    )


def test_event_logs_tell_what_happened_to_an_object_and_below_it(root, places):
    assert root.put(f"/subnets/{places['subnets']}", {"description": "seen"})[0] == 204
    logs = root.get(f"/subnets/{places['subnets']}/eventlogs", order="eventReceivedTime DESC")[2]
    assert {(one["type"], one["entityType"]) for one in logs} >= {
        ("UPDATE", "subnet"),
        ("CREATE", "vport"),
        ("CREATE", "containerinterface"),
    }
    change = next(
        one
        for one in logs
        if one["type"] == "UPDATE" and one["entityType"] == "subnet" and one["user"] == "csproot"
    )
    assert change["entities"][0]["description"] == "seen" and change["entityParentType"] == "zone"
    assert root.get(f"/eventlogs/{change['ID']}")[2][0] == change
    only = root.get(
        f"/subnets/{places['subnets']}/eventlogs",
        filter='entityType == "vport"',
        page=0,
        page_size=1,
    )
    assert len(only[2]) == 1 and only[1]["X-Nuage-Page"] == "0"
    assert root.get(f"/eventlogs/{uuid.uuid4()}")[0] == 404


def test_the_user_context_says_how_the_vsd_is_set(vsd, root):
    vsd.admin("POST", "/config", {"page_default": 40})
    context = root.get("/usercontexts")[2]
    assert len(context) == 1 and (context[0]["pageSize"], context[0]["maintenanceModeEnabled"]) == (
        40,
        False,
    )
    vsd.admin("POST", "/config", {"maintenance": True, "page_default": 50})
    assert root.get("/usercontexts")[2][0]["maintenanceModeEnabled"] is True


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 5_000, '{"name": ' + "[" * 50_000])
def test_a_body_that_is_nested_too_deeply_is_a_400(root, body):
    reply = root.session.post(
        f"{root.base}/enterprises",
        data=body,
        auth=(root.user, root.secret),
        timeout=60,
        headers={"X-Nuage-Organization": root.organization, "Content-Type": "application/json"},
    )
    assert reply.status_code == 400, reply.text[:200]


@pytest.mark.parametrize(
    "text", ["(" * 3_000 + 'name == "x"' + ")" * 3_000, "NOT " * 1_500 + 'name == "x"']
)
def test_a_filter_that_is_nested_too_deeply_is_a_400_and_a_long_one_is_not(root, text):
    status, _, body = root.get("/enterprises", filter=text)
    assert status == 400 and "deep" in str(body)
    assert root.get("/enterprises", filter=" OR ".join(['(NOT name == "x")'] * 200))[0] == 200


@pytest.mark.parametrize("wrong", [[], {}, None, 7, True])
def test_an_id_of_another_type_in_a_bulk_change_fails_that_object_alone(root, seed, wrong):
    subnet = root.get("/subnets", filter='name == "Subnet 1"')[2][0]["ID"]
    status, _, body = root.put(
        "/subnets/",
        [{"ID": wrong, "description": "a"}, {"ID": subnet, "description": f"b {wrong}"}],
    )
    assert status == 200 and [one["status"] for one in body["response"]] == [400, 204], body


def test_a_refusal_says_what_is_really_in_the_way(root, places, seed):
    def text(answer, status=409, name=None):
        error = refused(answer, status, None) if status == 409 else answer[2]["errors"][0]
        assert answer[0] == status and name in (None, error["property"])
        return error["descriptions"][0]["description"]

    one, dual = seed.subnet("Subnet 1"), seed.subnet("Dual")
    answer = root.put(
        f"/containerinterfaces/{places['containerinterfaces']}", {"endpointID": "x" * 256}
    )
    assert text(answer, name="endpointID") == "The length of this value must be at most 255."
    twice = [interface(one, IPAddress="10.21.58.77"), interface(one, IPAddress="10.21.58.77")]
    answer = root.post("/containers", container(one, interfaces=twice))
    assert refused(answer, 409, 2704)["descriptions"][0]["description"].endswith(
        "in use by another interface of this request."
    )
    named = created(
        root, container(dual, interfaces=[interface(dual, IPv6Address="2001:db8:64::77")])
    )
    answer = root.post(
        "/containers", container(dual, interfaces=[interface(dual, IPv6Address="2001:db8:64::77")])
    )
    assert refused(answer, 409, 2704)["descriptions"][0]["description"].endswith(
        f"in use by container {named['UUID']}."
    )
    assert "mandatory" in text(
        root.post(f"/subnets/{dual['ID']}/vmipreservations", {"IPType": "IPV6"}), name="IPV6Address"
    )
    assert text(root.put("/subnets", [None]), 400) == "Each entry of the list must be an object."
    for page in ("1_0", "\u0661"):
        answer = root.get("/enterprises", page=page.encode())
        assert "X-Nuage-Page must be a number" in text(answer, 400)


@pytest.mark.parametrize("name", ["a:b", " a", "a ", "a\0", "a\nb"])
def test_a_user_name_that_nobody_could_log_in_by_is_refused(root, seed, name):
    enterprise = seed.one("/enterprises", "Enterprise")["ID"]
    body = {
        "userName": "fine name",
        "password": "p",
        "firstName": "F",
        "lastName": "L",
        "email": "f@x.example",
    }
    assert (
        refused(
            root.post(f"/enterprises/{enterprise}/users", {**body, "userName": name}), 409, None
        )["property"]
        == "userName"
    )
    made = root.post(f"/enterprises/{enterprise}/users", body)[2][0]
    assert (
        refused(root.put(f"/users/{made['ID']}", {"userName": name}), 409, None)["property"]
        == "userName"
    )


def test_the_system_user_cannot_be_locked_out(root):
    itself = root.get("/me")[2][0]["ID"]
    assert (
        refused(root.put(f"/users/{itself}", {"disabled": True}), 409, 2013)["property"]
        == "disabled"
    )
    assert root.put(f"/users/{itself}", {"disabled": False, "firstName": "Root"})[0] in (200, 204)
    assert root.get("/me")[0] == 200
