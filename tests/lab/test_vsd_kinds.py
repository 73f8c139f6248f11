"""Every kind of object, by the table of the VSD contract (Annex A, vsd §6, §7): made, read,
changed, refused, deleted.
"""

import json
import uuid

import pytest

from tests.support import annex
from tests.support.vsd_kinds import MADE, MODEL, bodies, body_of, made_in, seed_user
from tests.support.vsd_objects import container, created, refused

# The recordings are older than the specification, which has ENTERPRISE_DEFAULT.
_OF_ITS_TIME = {"useGlobalMAC"}


# -- every kind, by the table (Annex A, vsd §6, §7) -----------------------------------------------


def test_every_kind_that_can_be_made_is_in_the_list_of_these_tests(places):
    computed = {"me", "statistics", "eventlog", "usercontext", "vrs"}
    # test_vsd_containers.py, test_vsd_admin.py.
    elsewhere = {
        "containerinterface",
        "containerresync",
    }
    assert set(MADE) == set(bodies(places)) == set(MODEL.by_rest_name) - computed - elsewhere


@pytest.mark.parametrize("rest_name", MADE)
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


@pytest.mark.parametrize("rest_name", MADE)
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


@pytest.mark.parametrize("rest_name", MADE)
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


@pytest.mark.parametrize("rest_name", MADE)
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


@pytest.mark.parametrize("rest_name", MADE)
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
    "rest_name", [one for one in MADE if one not in ("enterprise", "container")]
)
def test_a_parent_that_does_not_exist_is_a_404_of_its_kind(root, places, rest_name):
    resource, path, body = body_of(rest_name, places)
    word = path.split("/")[1]
    kind = next(one.rest_name for one in MODEL.by_rest_name.values() if one.name == word)
    status, _, answer = root.post(f"/{word}/{uuid.uuid4()}/{resource.name}", body)
    assert (
        status == 404
        and answer["title"] == f"{kind} not found"
        and "internalErrorCode" not in answer
    )


@pytest.mark.parametrize("rest_name", MADE)
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
