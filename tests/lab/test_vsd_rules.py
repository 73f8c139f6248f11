"""The rules of the VSD contract beyond its vectors, section by section, by correct and by hostile requests."""

import ipaddress
import json
import time
import uuid

import pytest

from nuage_lab.vsd.model import load_model
from tests.support import annex
from tests.support.vsd_objects import addresses_of, container, created, interface, refused

_MODEL = load_model()
_OF_ITS_TIME = {
    "useGlobalMAC"
}  # the recordings are older than the specification, which has ENTERPRISE_DEFAULT


@pytest.fixture
def places(root, seed):
    """For each word of a parent in a path: an object of that kind in the seeded tree."""
    enterprise, domain, subnet = (
        seed.one("/enterprises", "Enterprise"),
        seed.domain(),
        seed.subnet("Subnet 2"),
    )
    made = created(root, container(subnet))
    found = {
        "enterprises": enterprise, "domains": domain, "subnets": subnet, "l2domains": seed.l2domain("L2"),
        "zones": root.get(f"/zones/{subnet['parentID']}")[2][0], "containers": made, "containerinterfaces": made["interfaces"][0],
        "vports": root.get(f"/vports/{made['interfaces'][0]['VPortID']}")[2][0], "policygroups": seed.group("Web"),
        "domaintemplates": root.get(f"/domaintemplates/{domain['templateID']}")[2][0],
        "l2domaintemplates": root.get(f"/enterprises/{enterprise['ID']}/l2domaintemplates")[2][0],
        "users": seed_user(root, "admin"), "groups": seed.one(f"/enterprises/{enterprise['ID']}/groups", "CMS Group"),
    }  # fmt: skip
    return {word: entity["ID"] for word, entity in found.items()}


def seed_user(root, name):
    return root.get("/users", filter=f'userName == "{name}"')[2][0]


def made_in(client, path, body):
    status, _, reply = client.post(path, body)
    assert status == 201, reply
    return reply[0]


def bodies(places):
    """A body with all that is needed, for each kind that can be made below something that is seeded."""
    return {
        "enterprise": (None, {"name": "New Corp"}),
        "domaintemplate": ("enterprises", {"name": "new"}),
        "domain": ("enterprises", {"name": "new", "templateID": places["domaintemplates"]}),
        "l2domaintemplate": ("enterprises", {"name": "new", "DHCPManaged": False}),
        "l2domain": ("enterprises", {"name": "new", "templateID": places["l2domaintemplates"]}),
        "zone": ("domains", {"name": "new"}),
        "subnet": ("zones", {"name": "new", "address": "10.77.0.0", "netmask": "255.255.255.0"}),
        "vport": ("subnets", {"name": "new", "type": "CONTAINER", "addressSpoofing": "INHERITED"}),
        "policygroup": ("domains", {"name": "new", "type": "SOFTWARE"}),
        "user": ("enterprises", {"userName": "new", "password": "p", "email": "a@b", "firstName": "a", "lastName": "b"}),
        "group": ("enterprises", {"name": "new"}),
        "addressrange": ("subnets", {"minAddress": "10.21.59.9", "maxAddress": "10.21.59.19"}),
        "ipreservation": ("subnets", {"MAC": "02:aa:00:00:00:01", "IPAddress": "10.21.59.77"}),
        "vmipreservation": ("subnets", {"IPV4Address": "10.21.59.78"}),
        "dhcpoption": ("subnets", {"actualType": 15, "actualValues": ["lab.example"]}),
        "dhcpv6option": ("subnets", {"actualType": 23, "actualValues": ["2001:db8::53"]}),
        "permission": ("zones", {"permittedEntityID": places["groups"]}),
        "metadata": ("vports", {"blob": "x"}),
        "globalmetadata": ("enterprises", {"blob": "x"}),
        "container": (None, {"name": "new", "UUID": "new"}),
    }  # fmt: skip


_MADE = ["addressrange", "container", "dhcpoption", "dhcpv6option", "domain", "domaintemplate", "enterprise", "globalmetadata", "group",
         "ipreservation", "l2domain", "l2domaintemplate", "metadata", "permission", "policygroup", "subnet", "user", "vmipreservation",
         "vport", "zone"]  # fmt: skip


def body_of(rest_name, places):
    word, body = bodies(places)[rest_name]
    resource = _MODEL.by_rest_name[rest_name]
    return (
        resource,
        f"/{word}/{places[word]}/{resource.name}" if word else f"/{resource.name}",
        body,
    )


# --- every kind, by the table (Annex A, vsd §6, §7) -----------------------------------------------------------------------


def test_every_kind_that_can_be_made_is_in_the_list_of_these_tests(places):
    computed = {"me", "statistics", "eventlog", "usercontext", "vrs"}
    elsewhere = {"containerinterface", "containerresync"}  # test_vsd_simulator.py
    assert set(_MADE) == set(bodies(places)) == set(_MODEL.by_rest_name) - computed - elsewhere


@pytest.mark.parametrize("rest_name", _MADE)
def test_a_kind_is_made_read_listed_counted_changed_and_deleted(root, places, rest_name):
    resource, path, body = body_of(rest_name, places)
    made = made_in(root, path, body)
    secret = {name for name, field in resource.fields.items() if field.is_secret}
    assert {name: made[name] for name in body if name not in secret} == {
        name: body[name] for name in body if name not in secret
    }
    assert all(made[name] is None for name in secret)
    assert set(made) == {
        field.name
        for field in resource.fields.values()
        if field.until == "20.10" and not field.is_hidden
    }
    assert root.get(f"/{resource.name}/{made['ID']}")[2] == [made]
    listed = root.get(path, filter=f'ID == "{made["ID"]}"')
    assert listed[2] == [made] and listed[1]["X-Nuage-Count"] == "1"
    assert (
        root.call("HEAD", path, None, {"X-Nuage-Filter": f'ID == "{made["ID"]}"'})[1][
            "X-Nuage-Count"
        ]
        == "1"
    )
    assert root.put(f"/{resource.name}/{made['ID']}", {"externalID": "ext-1"})[0] == 204
    changed = root.get(f"/{resource.name}/{made['ID']}")[2][0]
    assert changed == {**made, "externalID": "ext-1", "lastUpdatedDate": changed["lastUpdatedDate"]}
    refused(root.put(f"/{resource.name}/{made['ID']}", changed), 409, 2039)
    assert root.delete(f"/{resource.name}/{made['ID']}?responseChoice=1")[0] == 204
    status, _, gone = root.get(f"/{resource.name}/{made['ID']}")
    assert status == 404 and gone["title"] == f"{rest_name} not found"


@pytest.mark.parametrize("rest_name", _MADE)
def test_a_new_object_has_the_defaults_of_the_table(root, places, rest_name):
    resource, path, body = body_of(rest_name, places)
    made = made_in(root, path, body)
    for field in resource.fields.values():
        if (
            field.default is not None
            and field.name not in body
            and field.until == "20.10"
            and not field.is_hidden
        ):
            assert made[field.name] == field.default, field.name


@pytest.mark.parametrize("rest_name", _MADE)
def test_an_attribute_that_is_missing_or_null_or_of_another_type_is_refused_by_name(
    root, places, rest_name
):
    resource, path, body = body_of(rest_name, places)
    for name, field in resource.fields.items():
        is_needed = field.is_required and field.is_enforced and field.specified is None
        if is_needed:
            without = {key: value for key, value in body.items() if key != name}
            for bad in (without, {**body, name: None}):
                error = refused(root.post(path, bad), 409, None)
                assert (error["property"], error["descriptions"][0]["description"]) == (
                    name,
                    "This value is mandatory.",
                )
        if field.is_read_only or field.is_server_set or field.is_hidden or name == "interfaces":
            continue
        error = refused(
            root.post(path, {**body, name: {"a": 1} if field.type != "object" else [1]}), 409, None
        )
        assert error["property"] == name and error["descriptions"][0]["title"] == "Invalid input"
        if field.choices:
            assert (
                refused(
                    root.post(
                        path, {**body, name: "PURPLE" if field.type == "enum" else ["PURPLE"]}
                    ),
                    409,
                    None,
                )["property"]
                == name
            )
        low, high = field.range
        for number in [] if low is None else [low - 1] if high is None else [low - 1, high + 1]:
            assert refused(root.post(path, {**body, name: number}), 409, None)["property"] == name
        for length in (
            [] if field.length[1] is None or field.length[1] > 10**6 else [field.length[1] + 1]
        ):
            assert (
                refused(root.post(path, {**body, name: "x" * length}), 409, None)["property"]
                == name
            )
    assert root.get(path, filter=f'externalID == "{rest_name}"')[2] is None


@pytest.mark.parametrize("rest_name", _MADE)
def test_an_unknown_attribute_is_refused_by_name(root, places, rest_name):
    resource, path, body = body_of(rest_name, places)
    error = refused(root.post(path, {**body, "colour": "red"}), 409, None)
    assert error["property"] == "colour" and rest_name in error["descriptions"][0]["description"]
    made = made_in(root, path, body)
    answer = root.put(f"/{resource.name}/{made['ID']}", {"externalID": "e", "colour": "red"})
    if rest_name == "container":
        assert answer[0] == 204  # vsd §11.4: unknown attributes of a container are passed over
    else:
        assert refused(answer, 409, None)["property"] == "colour"


@pytest.mark.parametrize("rest_name", _MADE)
def test_what_only_the_server_sets_is_passed_over(root, places, rest_name):
    resource, path, body = body_of(rest_name, places)
    forged = {
        "ID": str(uuid.uuid4()),
        "owner": "me",
        "creationDate": 1,
        "parentID": "x",
        "parentType": "y",
        "entityScope": "GLOBAL",
    }
    made = made_in(root, path, {**body, **forged})
    assert (
        made["ID"] != forged["ID"]
        and made["creationDate"] > 10**12
        and made["owner"] == seed_user(root, "csproot")["ID"]
    )
    assert made["entityScope"] == ("GLOBAL" if made["parentID"] is None else "ENTERPRISE")
    read_only = {name: "forged" for name, field in resource.fields.items() if field.is_read_only}
    refused(root.put(f"/{resource.name}/{made['ID']}", read_only), 409, 2039)


@pytest.mark.parametrize(
    "rest_name", [one for one in _MADE if one not in ("enterprise", "container")]
)
def test_a_parent_that_does_not_exist_is_a_404_of_its_kind(root, places, rest_name):
    resource, path, body = body_of(rest_name, places)
    word = path.split("/")[1]
    kind = next(one.rest_name for one in _MODEL.by_rest_name.values() if one.name == word)
    status, _, answer = root.post(f"/{word}/{uuid.uuid4()}/{resource.name}", body)
    assert (
        status == 404
        and answer["title"] == f"{kind} not found"
        and "internalErrorCode" not in answer
    )


@pytest.mark.parametrize("rest_name", _MADE)
def test_a_user_who_may_not_write_is_refused_with_403_and_the_cms_rule_with_401(
    vsd, root, places, rest_name
):
    _, path, body = body_of(rest_name, places)
    viewer = vsd.client("viewer", "viewer", "Enterprise")
    assert viewer.post(path, body)[0] == (401 if rest_name == "container" else 403)


def test_each_verb_that_a_kind_does_not_have_is_a_405(root, places):
    assert root.put(f"/zones/{places['zones']}/subnets", [])[0] == 405
    assert root.delete(f"/zones/{places['zones']}/subnets")[0] == 405
    assert root.post(f"/domains/{places['domains']}/subnets", {"name": "x"})[0] == 405
    assert root.post(f"/subnets/{places['subnets']}", {})[0] == 405
    assert root.patch(f"/subnets/{places['subnets']}", [], "add")[0] == 405
    assert root.call("OPTIONS", "/subnets", None, {})[0] == 405
    logs = root.get(f"/zones/{places['zones']}/eventlogs")[2]
    assert (
        root.get(f"/eventlogs/{logs[0]['ID']}")[0] == 200
        and root.delete(f"/eventlogs/{logs[0]['ID']}")[0] == 405
    )


def test_siblings_may_not_share_what_is_unique_and_others_may(root, places, seed):
    for rest_name in (
        "enterprise",
        "domain",
        "zone",
        "subnet",
        "vport",
        "policygroup",
        "l2domain",
        "user",
        "group",
    ):
        resource, path, body = body_of(rest_name, places)
        made_in(root, path, {**body, "externalID": "same"})
        other = (
            {**body, "externalID": "same", "address": "10.78.0.0"}
            if rest_name == "subnet"
            else {**body, "externalID": "same"}
        )
        name = next(iter(resource.unique))
        assert refused(root.post(path, other), 409, resource.unique[name])["property"] == name
        if name in ("name", "userName"):
            assert (
                refused(root.post(path, {**other, name: "other"}), 409, 2510)["property"]
                == "externalID"
            )
    subnet = seed.subnet("Subnet 1")
    created(root, container(subnet, externalID="same"))
    created(root, container(subnet, externalID="same"))
    domain = places["domains"]
    assert root.put(f"/domains/{domain}", {"loopbackIntfId": 7})[0] == 204
    enterprise, template = places["enterprises"], places["domaintemplates"]
    body = {"name": "loop", "templateID": template, "loopbackIntfId": 7}
    assert (
        refused(root.post(f"/enterprises/{enterprise}/domains", body), 409, 2510)["property"]
        == "loopbackIntfId"
    )


def test_a_duplicate_policy_group_has_the_known_text(root, places):
    error = refused(
        root.post(
            f"/domains/{places['domains']}/policygroups", {"name": "Web", "type": "SOFTWARE"}
        ),
        409,
        9501,
    )
    assert error["descriptions"][0]["title"] == "Cannot create duplicate entity."


def test_numbers_stay_in_the_width_of_their_type(root, places):
    path = f"/domains/{places['domains']}"
    assert root.put(path, {"customerID": 2**40})[0] == 204
    assert refused(root.put(path, {"customerID": 2**63}), 409, None)["property"] == "customerID"
    assert refused(root.put(path, {"domainVLANID": 2**31}), 409, None)["property"] == "domainVLANID"
    assert refused(root.put(path, {"ECMPCount": 1.5}), 409, None)["property"] == "ECMPCount"
    assert (
        refused(root.put(path, {"dhcpServerAddresses": [1]}), 409, None)["property"]
        == "dhcpServerAddresses"
    )


@pytest.mark.parametrize("body", ["", "null", "5", '"text"', "[", "{} {}", "\x00", '{"name": "x"'])
def test_a_body_that_is_no_object_is_a_400(root, places, body):
    for answer in (
        root.post(f"/domains/{places['domains']}/zones", body),
        root.put(f"/zones/{places['zones']}", body),
        root.put(f"/vports/{places['vports']}/policygroups", body),
    ):
        assert answer[0] == 400 and answer[2]["errors"][0]["descriptions"][0]["description"]


def test_recorded_objects_have_no_attribute_that_the_simulator_does_not_show(vsd, places):
    if not annex.CONTRACT.exists():
        pytest.skip(f"the VSD contract is not there: {annex.CONTRACT}")
    section = (
        annex.CONTRACT.read_text(encoding="utf-8").partition("\n## 8.")[2].partition("\n## 9.")[0]
    )
    samples = [
        json.loads(block.partition("```")[0].replace("…", ""))
        for block in section.split("```json")[1:]
    ]
    older = vsd.client(version="v5_0")
    for path, sample in zip(
        (f"/subnets/{places['subnets']}", f"/vports/{places['vports']}"), samples, strict=True
    ):
        shown = older.get(path)[2][0]
        assert not set(sample) - set(shown)
        for name, value in sample.items():  # what does not depend on the object is equal
            if (
                value is None
                or isinstance(value, bool)
                or (isinstance(value, str) and value.isupper() and ":" not in value)
            ):
                assert shown[name] == value or name in _OF_ITS_TIME, name


# --- collections: groups, counts, bulk (vsd §5, §6) ---------------------------------------------------------------------------


def test_a_list_may_be_grouped_counted_and_paged(root, places):
    path = f"/domains/{places['domains']}/subnets"
    group = {"X-Nuage-GroupBy": "true", "X-Nuage-Attributes": "IPType, netmask"}
    status, headers, body = root.call("GET", path, None, group)
    assert status == 200 and headers["X-Nuage-Count"] == str(len(body))
    assert all(set(row) == {"IPType", "netmask"} for row in body) and len(
        {str(row) for row in body}
    ) == len(body)
    assert {"IPType": "DUALSTACK", "netmask": "255.255.255.0"} in body
    page = root.call("GET", path, None, {**group, "X-Nuage-Page": "1", "X-Nuage-PageSize": "2"})[2]
    assert page == body[2:4]
    for wrong in ({"X-Nuage-GroupBy": "true"}, {**group, "X-Nuage-Attributes": "colour"}):
        assert root.call("GET", path, None, wrong)[0] == 400


def test_a_head_has_the_headers_of_a_get_and_no_body(root, places):
    path = f"/domains/{places['domains']}/subnets"
    got, asked = root.get(path), root.call("HEAD", path, "null", {})
    assert asked[0] == 200 and asked[2] is None
    for name in ("X-Nuage-Count", "X-Nuage-OrderBy", "Content-Type"):
        assert asked[1][name] == got[1][name]
    assert root.call("HEAD", f"/subnets/{uuid.uuid4()}", None, {})[0] == 404
    assert root.call("HEAD", "/me", None, {})[0] == 200


def test_bulk_calls_have_limits_and_answer_item_by_item(root, places):
    path = f"/domains/{places['domains']}/zones"
    status, _, body = root.post(path, [{"name": "A"}, {"name": "A"}, {"name": 5}])
    assert status == 200 and [one["status"] for one in body["response"]] == [201, 409, 409]
    assert (
        body["response"][0]["data"]["name"] == "A"
        and body["response"][1]["data"]["internalErrorCode"] == 2510
    )
    assert body["responseMetadata"] == {"failure": 2, "success": 1, "total": 3}
    made = body["response"][0]["data"]["ID"]
    assert root.put("/zones", [{"ID": made, "description": "x"}])[2]["response"] == [
        {"status": 204, "data": None}
    ]
    assert (
        root.put("/zones", [{"ID": made, "description": "x"}, {"name": "none"}])[2][
            "responseMetadata"
        ]["failure"]
        == 2
    )
    assert root.delete(f"/zones?responseChoice=1&id={made}")[2]["responseMetadata"]["failure"] == 0
    for answer in (
        root.post(path, [5]),
        root.put("/zones", {"ID": made}),
        root.put("/zones", [{"ID": made}] * 501),
        root.delete("/zones"),
        root.delete("/zones?" + "&".join("id=x" for _ in range(151))),
    ):
        assert answer[0] == 400
    status, _, body = root.post(
        "/containers", [{"name": "a", "UUID": "a"}, {"name": "b", "UUID": "a"}]
    )
    assert [one["status"] for one in body["response"]] == [201, 409] and root.get(
        f"/containers/{body['response'][0]['data']['ID']}"
    )[0] == 200


def test_bulk_calls_do_not_reach_into_another_enterprise(vsd, root, places):
    other = vsd.client("admin", "admin", "Other Corp")
    body = other.put("/zones?responseChoice=1", [{"ID": places["zones"], "description": "x"}])[2]
    assert body["response"][0]["status"] == 404
    assert root.get(f"/zones/{places['zones']}")[2][0]["description"] is None


# --- membership (vsd §9) ---------------------------------------------------------------------------------------------------------


def test_membership_is_changed_from_both_sides_and_all_or_nothing(root, places, seed):
    vport, web, db = places["vports"], places["policygroups"], seed.group("DB")["ID"]
    assert root.put(f"/policygroups/{web}/vports", [vport])[0] == 204
    assert [one["ID"] for one in root.get(f"/vports/{vport}/policygroups")[2]] == [web]
    status, _, body = root.put(f"/vports/{vport}/policygroups", [db, str(uuid.uuid4())])
    assert status == 404 and [
        one["ID"] for one in root.get(f"/vports/{vport}/policygroups")[2]
    ] == [web]
    assert root.patch(f"/policygroups/{web}/vports", [vport], "remove")[0] == 204
    assert root.get(f"/vports/{vport}/policygroups")[2] is None
    hardware = made_in(
        root, f"/domains/{places['domains']}/policygroups", {"name": "hw", "type": "HARDWARE"}
    )["ID"]
    refused(root.put(f"/vports/{vport}/policygroups", [hardware]), 409, None)
    for wrong in ({}, [5], [[web]]):
        assert root.put(f"/vports/{vport}/policygroups", wrong)[0] == 400
    foreign = seed.subnet("Subnet 2", enterprise="Other Corp")
    refused(root.put(f"/vports/{vport}/policygroups", [foreign["ID"]]), 404, None)


def test_a_child_is_no_member_that_can_be_taken_out(root, places):
    zone, group = places["zones"], places["groups"]
    made = made_in(root, f"/zones/{zone}/permissions", {"permittedEntityID": group})
    refused(root.put(f"/zones/{zone}/permissions", []), 409, None)
    assert root.get(f"/permissions/{made['ID']}")[0] == 200
    refused(root.post(f"/zones/{zone}/permissions", {"permittedEntityID": group}), 409, 4504)
    refused(
        root.post(f"/zones/{zone}/permissions", {"permittedEntityID": str(uuid.uuid4())}), 404, None
    )
    assert (
        root.delete(f"/zones/{zone}/permissions?responseChoice=1&permittedEntityID={group}")[0]
        == 204
    )
    assert root.get(f"/zones/{zone}/permissions")[2] is None


# --- templates, domains, networks (vsd §7, §9, §13) ---------------------------------------------------------------------------------


def test_a_domain_without_a_backhaul_subnet_has_none(root, places):
    body = {"name": "bare", "templateID": places["domaintemplates"], "createBackHaulSubnet": False}
    made = made_in(root, f"/enterprises/{places['enterprises']}/domains", body)
    assert root.get(f"/domains/{made['ID']}/subnets")[2] is None
    assert [one["name"] for one in root.get(f"/domains/{made['ID']}/zones")[2]] == ["BackHaulZone"]
    assert [
        one["name"]
        for one in root.get(
            f"/domaintemplates/{places['domaintemplates']}/domains", filter='name == "bare"'
        )[2]
    ] == ["bare"]
    foreign = root.get("/domains", filter='name == "Domain"')[2]
    other = next(one for one in foreign if one["enterpriseID"] != places["enterprises"])[
        "templateID"
    ]
    status, _, answer = root.post(
        f"/enterprises/{places['enterprises']}/domains", {"name": "x", "templateID": other}
    )
    assert status == 404 and answer["title"] == "domaintemplate not found"


def test_a_template_in_use_stays_and_its_l2_domain_follows_it(root, places):
    enterprise = f"/enterprises/{places['enterprises']}"
    template = made_in(
        root,
        f"{enterprise}/l2domaintemplates",
        {"name": "t", "DHCPManaged": True, "address": "10.3.0.0", "netmask": "255.255.255.0"},
    )
    assert template["gateway"] == "10.3.0.1"
    span = made_in(
        root,
        f"/l2domaintemplates/{template['ID']}/addressranges",
        {"minAddress": "10.3.0.20", "maxAddress": "10.3.0.21"},
    )
    made = made_in(
        root,
        f"{enterprise}/l2domains",
        {"name": "l", "templateID": template["ID"], "address": "10.99.0.0"},
    )
    assert (made["address"], made["DHCPManaged"], made["enableDHCPv4"]) == ("10.3.0.0", True, True)
    assert [one["ID"] for one in root.get(f"/l2domains/{made['ID']}/addressranges")[2]] == [
        span["ID"]
    ]
    assert created(root, container(made))["interfaces"][0]["IPAddress"] == "10.3.0.20"
    refused(root.delete(f"/l2domaintemplates/{template['ID']}"), 409, 2506)
    raw = made_in(
        root,
        f"{enterprise}/l2domaintemplates",
        {"name": "raw", "DHCPManaged": False, "address": "10.4.0.0", "netmask": "255.255.255.0"},
    )
    assert (raw["address"], raw["gateway"]) == (None, None)
    refused(
        root.post(f"{enterprise}/l2domaintemplates", {"name": "n", "DHCPManaged": True}), 409, None
    )
    refused(root.post(f"{enterprise}/l2domains", {"name": "n"}), 409, None)


@pytest.mark.parametrize("body, name", [
    ({"IPType": "DUALSTACK", "address": "10.77.0.0", "netmask": "255.255.255.0"}, "IPv6Address"),
    ({"IPType": "DUALSTACK", "IPv6Address": "2001:db8:77::/64"}, "address"),
    ({"IPType": "IPV6"}, "IPv6Address"),
    ({"IPType": "IPV6", "IPv6Address": "2001:db8:77::/64", "address": "10.77.0.0", "netmask": "255.255.255.0"}, "address"),
    ({"address": "10.77.0.0", "netmask": "255.255.255.0", "IPv6Address": "2001:db8:77::/64"}, "IPv6Address"),
    ({"IPType": "IPV6", "IPv6Address": "2001:db8:77::1/64"}, "IPv6Address"),
    ({"IPType": "IPV6", "IPv6Address": "2001:db8:64::/80"}, "IPv6Address"),
    ({"IPType": "IPV6", "IPv6Address": "2001:db8:77::/64", "IPv6Gateway": "2001:db8:78::1"}, "IPv6Gateway"),
    ({"IPType": "IPV6", "IPv6Address": "no network"}, "IPv6Address"),
    ({"address": "10.77.0.0", "netmask": "255.0.255.0"}, "address"),
    ({"address": "10.77.0.0", "netmask": "255.255.255.0", "gateway": "next door"}, "gateway"),
])  # fmt: skip
def test_a_network_has_the_addresses_of_its_families_and_no_others(root, places, body, name):
    assert (
        refused(root.post(f"/zones/{places['zones']}/subnets", {"name": "n", **body}), 409, None)[
            "property"
        ]
        == name
    )


def test_a_network_of_ipv6_alone_gives_addresses_without_a_netmask(root, places):
    body = {
        "name": "six",
        "IPType": "IPV6",
        "IPv6Address": "2001:db8:77::/64",
        "enableDHCPv6": True,
    }
    subnet = made_in(root, f"/zones/{places['zones']}/subnets", body)
    assert (subnet["IPv6Gateway"], subnet["linkLocalAddress"], subnet["address"]) == (
        "2001:db8:77::1",
        "fe80::1",
        None,
    )
    port = created(root, container(subnet))["interfaces"][0]
    assert (port["IPAddress"], port["netmask"], port["gateway"], port["IPv6Gateway"]) == (
        None,
        None,
        None,
        "2001:db8:77::1",
    )
    assert port["IPv6Address"] == "2001:db8:77::2"


def test_in_a_dual_stack_network_a_client_may_name_either_address_both_or_none(root, seed):
    subnet = seed.subnet("Dual")
    given = [
        created(root, container(subnet, interfaces=[interface(subnet, **wanted)]))["interfaces"][0]
        for wanted in ({"IPAddress": "10.21.64.50"}, {"IPv6Address": "2001:db8:64::50/64"},
                       {"IPAddress": "10.21.64.60", "IPv6Address": "2001:db8:64::60"}, {})
    ]  # fmt: skip
    assert given[0]["IPAddress"] == "10.21.64.50" and given[1]["IPv6Address"] == "2001:db8:64::50"
    assert (given[2]["IPAddress"], given[2]["IPv6Address"]) == ("10.21.64.60", "2001:db8:64::60")
    assert (
        len({port["IPv6Address"] for port in given})
        == 4
        == len({port["IPAddress"] for port in given})
    )
    for wrong, code in (
        ("2001:db8:64::60", 2704),
        ("2001:db8:99::1", None),
        ("10.21.64.9", None),
        ("2001:db8:64::1", None),
    ):
        answer = root.post(
            "/containers", container(subnet, interfaces=[interface(subnet, IPv6Address=wrong)])
        )
        assert refused(answer, 409, code)["property"] == "IPv6Address"
    path = f"/containerinterfaces/{given[3]['ID']}"
    assert root.put(path, {"IPv6Address": "2001:db8:64::70"})[0] == 204
    assert root.get(path)[2][0]["IPv6Address"] == "2001:db8:64::70"


def test_without_dynamic_allocation_an_ipv6_address_comes_only_when_it_is_named(root, places):
    body = {"name": "manual", "IPType": "DUALSTACK", "address": "10.77.0.0", "netmask": "255.255.255.0",
            "IPv6Address": "2001:db8:77::/64", "dualStackDynamicIPAllocation": False}  # fmt: skip
    subnet = made_in(root, f"/zones/{places['zones']}/subnets", body)
    assert created(root, container(subnet))["interfaces"][0]["IPv6Address"] is None
    named = container(subnet, interfaces=[interface(subnet, IPv6Address="2001:db8:77::9")])
    assert created(root, named)["interfaces"][0]["IPv6Address"] == "2001:db8:77::9"


def test_a_network_can_be_readdressed_only_while_it_is_empty_and_not_over_another(root, seed):
    subnet = seed.subnet("Subnet 1")
    assert (
        refused(
            root.put(
                f"/subnets/{subnet['ID']}", {"address": "10.21.59.0", "gateway": "10.21.59.1"}
            ),
            409,
            None,
        )["property"]
        == "address"
    )
    assert (
        refused(root.put(f"/subnets/{subnet['ID']}", {"address": "10.98.0.0"}), 409, None)[
            "property"
        ]
        == "gateway"
    )
    assert root.put(f"/subnets/{subnet['ID']}", {"address": "10.98.0.0", "gateway": None})[0] == 204
    assert root.get(f"/subnets/{subnet['ID']}")[2][0]["gateway"] == "10.98.0.1"
    assert created(root, container(subnet))["interfaces"][0]["IPAddress"] == "10.98.0.2"
    refused(root.put(f"/subnets/{subnet['ID']}", {"netmask": "255.255.0.0"}), 409, 2506)


def test_networks_with_the_global_mac_have_one_gateway_mac(root, places, seed):
    body = {
        "name": "new",
        "address": "10.77.0.0",
        "netmask": "255.255.255.0",
        "useGlobalMAC": "ENABLED",
    }
    made = made_in(root, f"/zones/{places['zones']}/subnets", body)
    assert made["gatewayMACAddress"] == "68:54:ED:00:59:EA"
    for path in (f"/subnets/{seed.subnet('Subnet 1')['ID']}", f"/l2domains/{places['l2domains']}"):
        own = root.get(path)[2][0]["gatewayMACAddress"]
        assert own.startswith("68:54:ED:00:") and own != made["gatewayMACAddress"]
        assert root.put(path, {"useGlobalMAC": "ENABLED"})[0] == 204
        assert root.get(path)[2][0]["gatewayMACAddress"] == made["gatewayMACAddress"]
        assert root.put(path, {"useGlobalMAC": "DISABLED"})[0] == 204
        assert root.get(path)[2][0]["gatewayMACAddress"] == own


def test_no_container_comes_into_a_network_in_maintenance(root, seed):
    subnet, domain = seed.subnet("Subnet 2"), seed.domain()
    for path in (f"/subnets/{subnet['ID']}", f"/domains/{domain['ID']}"):
        assert root.put(path, {"maintenanceMode": "ENABLED"})[0] == 204
        error = refused(root.post("/containers", container(subnet)), 409, None)
        assert "maintenance" in error["descriptions"][0]["description"]
        assert root.put(path, {"maintenanceMode": "DISABLED"})[0] == 204
    created(root, container(subnet))


def test_a_vport_keeps_its_type_and_its_name_has_letters_digits_blanks_and_hyphens(root, places):
    path = f"/subnets/{places['subnets']}/vports"
    good = {"name": "my port-1", "type": "BRIDGE", "addressSpoofing": "ENABLED"}
    made = made_in(root, path, good)
    assert (
        made["domainID"] == places["domains"]
        and made["zoneID"] == places["zones"]
        and made["assocEntityID"] == places["subnets"]
    )
    assert (
        refused(root.put(f"/vports/{made['ID']}", {"type": "VM"}), 409, None)["property"] == "type"
    )
    for name in ("under_score", "slash/", "", "x" * 65, "é"):
        assert refused(root.post(path, {**good, "name": name}), 409, None)["property"] == "name"
    assert root.get("/vports")[0] == 404  # there is no list of all vPorts


# --- addresses (vsd §9, §12) ----------------------------------------------------------------------------------------------------------


def test_the_list_of_recently_freed_addresses_holds_32_and_then_lets_the_oldest_go(root, seed):
    subnet = seed.subnet("Subnet 2")
    made = [created(root, container(subnet)) for _ in range(33)]
    assert sorted(addresses_of(root, subnet), key=ipaddress.ip_address) == [
        f"10.21.59.{number}" for number in range(2, 35)
    ]
    for one in made:
        assert root.delete(f"/containers/{one['ID']}")[0] == 204
    # 33 were freed: the one freed first has left the list and is the lowest; the others are still avoided
    given = [created(root, container(subnet))["interfaces"][0]["IPAddress"] for _ in range(3)]
    assert given == ["10.21.59.2", "10.21.59.35", "10.21.59.36"]


def test_ranges_are_taken_in_their_order_and_follow_their_changes(root, seed):
    subnet = seed.subnet("Subnet 2")
    path = f"/subnets/{subnet['ID']}/addressranges"
    high = made_in(root, path, {"minAddress": "10.21.59.200", "maxAddress": "10.21.59.201"})
    low = made_in(
        root,
        path,
        {"minAddress": "10.21.59.100", "maxAddress": "10.21.59.100", "DHCPPoolType": "HOST"},
    )
    assert [created(root, container(subnet))["interfaces"][0]["IPAddress"] for _ in range(2)] == [
        "10.21.59.100",
        "10.21.59.200",
    ]
    assert root.put(f"/addressranges/{low['ID']}", {"maxAddress": "10.21.59.101"})[0] == 204
    assert created(root, container(subnet))["interfaces"][0]["IPAddress"] == "10.21.59.101"
    assert (
        root.delete(f"/addressranges/{low['ID']}")[0]
        == 204
        == root.delete(f"/addressranges/{high['ID']}")[0]
    )
    assert created(root, container(subnet))["interfaces"][0]["IPAddress"] == "10.21.59.2"
    for wrong in (
        {"minAddress": "10.21.59.9", "maxAddress": "10.21.59.8"},
        {"minAddress": "x", "maxAddress": "10.21.59.8"},
        {"minAddress": "2001:db8::1", "maxAddress": "2001:db8::2", "IPType": "IPV6"},
    ):
        refused(root.post(path, wrong), 409, None)


def test_a_reservation_for_a_mac_follows_its_changes_and_its_end(root, seed):
    tiny = seed.subnet("Tiny")
    path = f"/subnets/{tiny['ID']}/ipreservations"
    made = made_in(root, path, {"MAC": "02:11:22:33:44:55", "IPAddress": "10.21.60.2"})
    assert (
        refused(root.post(path, {"MAC": "021122334455", "IPAddress": "10.21.60.3"}), 409, 2510)[
            "property"
        ]
        == "MAC"
    )
    refused(root.post(path, {"MAC": "02:11:22:33:44:56", "IPAddress": "10.21.60.2"}), 409, 2704)
    assert root.put(f"/ipreservations/{made['ID']}", {"IPAddress": "10.21.60.6"})[0] == 204
    assert created(root, container(tiny))["interfaces"][0]["IPAddress"] == "10.21.60.2"
    own = container(tiny, interfaces=[interface(tiny, MAC="02:11:22:33:44:55")])
    assert created(root, own)["interfaces"][0]["IPAddress"] == "10.21.60.6"
    assert root.delete(f"/ipreservations/{made['ID']}")[0] == 204
    refused(root.post("/containers", container(tiny, "10.21.60.6")), 409, 2704)


@pytest.mark.parametrize("body, status, code", [
    ({}, 409, None), ({"IPV4Address": "10.99.0.1"}, 409, None), ({"IPV4Address": "10.21.60.1"}, 409, None),
    ({"IPV4Address": "10.21.60.7"}, 409, None), ({"allocationPools": [{"minAddress": "10.21.60.2"}]}, 409, None),
    ({"allocationPools": ["x"]}, 409, None), ({"allocationPools": [{"minAddress": "10.1.0.1", "maxAddress": "10.1.0.2"}]}, 409, None),
    ({"IPV6Address": "2001:db8::5"}, 409, None), ({"allocationPools": [{"minAddress": "10.21.60.5", "maxAddress": "10.21.60.3"}]}, 409, None),
])  # fmt: skip
def test_a_reservation_for_later_must_fit_its_network(root, seed, body, status, code):
    refused(root.post(f"/subnets/{seed.subnet('Tiny')['ID']}/vmipreservations", body), status, code)


def test_reservations_for_later_fill_pools_and_both_families(root, seed):
    dual, tiny = seed.subnet("Dual"), seed.subnet("Tiny")
    pools = {"allocationPools": [{"minAddress": "10.21.60.3", "maxAddress": "10.21.60.3"}]}
    assert (
        made_in(root, f"/subnets/{tiny['ID']}/vmipreservations", pools)["IPV4Address"]
        == "10.21.60.3"
    )
    refused(root.post(f"/subnets/{tiny['ID']}/vmipreservations", pools), 409, 2702)
    both = made_in(root, f"/subnets/{dual['ID']}/vmipreservations", {
        "IPType": "DUALSTACK", "IPV4Address": "10.21.64.9", "externalID": "task-1",
        "IPV6AllocationPools": [{"minAddress": "2001:db8:64::9", "maxAddress": "2001:db8:64::f"}]})  # fmt: skip
    assert (both["IPV6Address"], both["state"], both["externalID"]) == (
        "2001:db8:64::9",
        "UNASSIGNED",
        "task-1",
    )
    taker = created(
        root, container(dual, interfaces=[interface(dual, IPv6Address="2001:db8:64::9")])
    )
    assert root.get(f"/vmipreservations/{both['ID']}")[2][0]["state"] == "ASSIGNED"
    assert taker["interfaces"][0]["IPAddress"] != "10.21.64.9"
    assert root.delete(f"/subnets/{dual['ID']}/vmipreservations?responseChoice=1")[0] == 400
    made = made_in(
        root,
        f"/l2domains/{seed.l2domain('L2')['ID']}/vmipreservations",
        {"IPV4Address": "10.30.0.9"},
    )
    assert (made["parentType"], made["IPV4Address"]) == ("l2domain", "10.30.0.9")


# --- containers (vsd §11) ---------------------------------------------------------------------------------------------------------------


def test_an_interface_stays_on_its_network(root, places, seed):
    path = f"/containerinterfaces/{places['containerinterfaces']}"
    assert (
        refused(root.put(path, {"attachedNetworkID": seed.subnet("Subnet 1")["ID"]}), 409, 2747)[
            "property"
        ]
        == "attachedNetworkID"
    )
    assert (
        refused(root.put(path, {"VPortID": str(uuid.uuid4())}), 409, 2747)["property"] == "VPortID"
    )
    refused(root.put(path, root.get(path)[2][0]), 409, 2039)


def test_what_hangs_on_a_container_goes_with_it(root, places):
    notes = [
        made_in(root, f"/{word}/{places[word]}/metadatas", {"blob": word})
        for word in ("containers", "containerinterfaces", "vports")
    ]
    assert root.delete(f"/containers/{places['containers']}?responseChoice=1")[0] == 204
    assert [root.get(f"/metadatas/{note['ID']}")[0] for note in notes] == [404] * 3


@pytest.mark.parametrize("entries", [5, "x", [5], [None], [[]], {"MAC": "02:00:00:00:00:01"}])
def test_interfaces_that_are_no_list_of_objects_are_refused_and_nothing_is_made(root, entries):
    answer = root.post("/containers", {"name": "x", "UUID": "x", "interfaces": entries})
    assert refused(answer, 409, None)["property"] == "interfaces"
    assert root.get("/containers")[2] is None


# --- what hangs on any object (vsd §9, §7.1) ----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("body, shown", [
    ({"actualType": 6, "actualValues": ["10.0.0.1", "10.0.0.2"]}, ("06", "08", "0a0000010a000002")),
    ({"type": "0F", "length": "0b", "value": "6c61622e6578616d706c65"}, ("0f", "0b", "6c61622e6578616d706c65")),
    ({"actualType": 26, "actualValues": ["1450"]}, ("1a", "02", "05aa")),
    ({"type": "03", "value": "0a000001"}, ("03", "04", "0a000001")),
    ({"actualType": 15, "actualValues": ["lab.example"]}, ("0f", "0b", "6c61622e6578616d706c65")),
])  # fmt: skip
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


@pytest.mark.parametrize("body, name", [
    ({}, "type"), ({"type": "zz"}, "type"), ({"type": "06", "value": "abc"}, "value"),
    ({"type": "06", "length": "03", "value": "0a000001"}, "length"),
    ({"actualType": 6, "actualValues": ["nobody"]}, "actualValues"), ({"actualType": 26, "actualValues": ["99999"]}, "actualValues"),
    ({"actualType": 300, "actualValues": ["x"]}, "type"),
    ({"actualType": 3, "actualValues": None}, "actualValues"), ({"actualType": 26, "actualValues": []}, "actualValues"),
    ({"type": "03"}, "value"), ({"actualType": 15, "actualValues": ["x" * 256]}, "actualValues"), ({"type": "0f", "value": "61" * 256}, "value"),
])  # fmt: skip
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


# --- what is made when it is asked for (vsd §9) ---------------------------------------------------------------------------------------------


def test_statistics_count_what_runs_since_it_exists(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    made = created(root, container(subnet))
    port, now = made["interfaces"][0], int(time.time())
    query = f"statistics?startTime={now - 300}&endTime={now + 300}&numberOfDataPoints=60&metricTypes=BYTES_IN,PACKETS_IN,PACKETS_IN_ERROR"
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


@pytest.mark.parametrize("query, name", [
    ("metricTypes=LUCK", "metricTypes"), ("startTime=5&endTime=5", "startTime"), ("startTime=9&endTime=5", "startTime"),
    ("startTime=soon", "startTime"), ("numberOfDataPoints=0", "numberOfDataPoints"), ("numberOfDataPoints=10001", "numberOfDataPoints"),
])  # fmt: skip
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
