"""The push events of the VSD simulator (vsd §14): resuming by uuid, the ring, bursts, who is
told what.
"""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from tests.support.vsd_objects import container, created, event_ids, eventually


def mark_of(vsd, client):
    """Return the uuid of this moment."""
    vsd.admin("POST", "/config", {"event_timeout_s": 0.05})
    mark = client.get("/events")[2]["uuid"]
    vsd.admin("POST", "/config", {"event_timeout_s": 10})
    return mark


def kinds(body):
    return [(event["type"], event["entityType"]) for event in body["events"]]


def test_without_news_the_answer_has_no_events_and_a_uuid_to_go_on_with(vsd, root):
    vsd.admin("POST", "/config", {"event_timeout_s": 0.2})
    started = time.monotonic()
    status, _, body = root.get("/events")
    assert status == 200 and body["events"] == [] and uuid.UUID(body["uuid"])
    assert time.monotonic() - started >= 0.2
    assert root.get(f"/events?uuid={body['uuid']}")[2]["events"] == []


def test_a_waiting_client_is_told_within_the_collection_interval(vsd, root, seed):
    vsd.admin("POST", "/config", {"event_timeout_s": 30})
    listener, subnet = vsd.client(), seed.subnet("Subnet 2")
    made = []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(listener.get, "/events")

        def is_told():
            made.append(created(root, container(subnet))["ID"])
            return waiting.done()

        assert eventually(is_told)
        assert event_ids(waiting.result()[2]) & set(made)


def test_one_answer_groups_the_objects_of_one_kind_that_one_request_changed(vsd, root, seed):
    mark = mark_of(vsd, root)
    domain = seed.domain()["ID"]
    assert (
        root.post(f"/domains/{domain}/zones", [{"name": f"Z{number}"} for number in range(3)])[0]
        == 200
    )
    body = root.get(f"/events?uuid={mark}")[2]
    assert [
        one["name"]
        for event in body["events"]
        if event["type"] == "CREATE"
        for one in event["entities"]
    ] == ["Z0", "Z1", "Z2"]
    assert {event["entityType"] for event in body["events"]} == {"zone"}
    assert len({event["requestID"] for event in body["events"]}) == 1
    event = body["events"][0]
    assert set(event) == {
        "type",
        "entityType",
        "entities",
        "eventReceivedTime",
        "requestID",
        "userName",
        "enterpriseName",
        "updateMechanism",
        "entityVersion",
        "assoicatedEvent",
        "diffMap",
        "ignoreDiffInMediationEvents",
    }
    assert (event["userName"], event["enterpriseName"], event["updateMechanism"]) == (
        "csproot",
        "csp",
        "DEFAULT",
    )
    assert abs(event["eventReceivedTime"] / 1000 - time.time()) < 600


def test_an_event_carries_the_object_as_it_was_then(vsd, root, seed):
    mark = mark_of(vsd, root)
    made = created(root, container(seed.subnet("Subnet 2")))
    assert root.put(f"/containers/{made['ID']}", {"name": "later"})[0] == 204
    assert root.delete(f"/containers/{made['ID']}")[0] == 204
    told = []
    while ("DELETE", "container") not in [one[0] for one in told]:
        body = root.get(f"/events?uuid={mark}")[2]
        mark = body["uuid"]
        told += [
            ((event["type"], event["entityType"]), one)
            for event in body["events"]
            for one in event["entities"]
        ]
    names = [one["name"] for kind, one in told if kind[1] == "container"]
    assert names == ["web", "later", "later"]


def test_two_clients_resume_from_the_same_uuid_and_an_old_one_can_be_used_again(vsd, root, seed):
    mark = mark_of(vsd, root)
    made = created(root, container(seed.subnet("Subnet 2")))
    first, second = (root.get(f"/events?uuid={mark}")[2] for _ in range(2))
    assert (
        event_ids(first) == event_ids(second)
        and made["ID"] in event_ids(first)
        and first["uuid"] != second["uuid"]
    )


def test_a_uuid_whose_place_in_the_ring_was_overwritten_is_refused(vsd, root, seed):
    mark = mark_of(vsd, root)
    domain = seed.domain()["ID"]
    zones = root.post(
        f"/domains/{domain}/zones", [{"name": f"Z{number}"} for number in range(500)]
    )[2]["response"]
    ids = [one["data"]["ID"] for one in zones]
    for round_number in range(20):  # the ring holds 10,000 changes
        items = [{"ID": one, "description": f"round {round_number}"} for one in ids]
        assert root.put("/zones?responseChoice=1", items)[2]["responseMetadata"]["failure"] == 0
    status, _, body = root.get(f"/events?uuid={mark}")
    assert status == 400 and body["errors"][0]["property"] == "uuid"
    mark = mark_of(vsd, root)
    assert root.put(f"/domains/{domain}", {"description": "after"})[0] == 204
    assert event_ids(root.get(f"/events?uuid={mark}")[2]) == {domain}


def test_a_client_that_was_silent_for_too_long_is_forgotten(vsd, root):
    mark = mark_of(vsd, root)
    vsd.admin("POST", "/config", {"inactiveTimeout": 0.1, "event_timeout_s": 0.05})
    time.sleep(0.2)
    assert root.get(f"/events?uuid={mark}")[0] == 400
    vsd.admin("POST", "/config", {"inactiveTimeout": 600})


def test_an_expired_key_is_a_401_and_the_same_uuid_goes_on_with_a_new_one(vsd, root, seed):
    mark = mark_of(vsd, root)
    made = created(root, container(seed.subnet("Subnet 2")))
    vsd.admin("POST", "/expire-keys")
    assert root.get(f"/events?uuid={mark}")[0] == 401
    again = vsd.client()
    again.me()
    assert made["ID"] in event_ids(again.get(f"/events?uuid={mark}")[2])


def test_a_user_is_told_of_its_own_enterprise_alone_and_never_of_a_secret(vsd, root, seed):
    own, other = (
        vsd.client("viewer", "viewer", "Enterprise"),
        vsd.client("admin", "admin", "Other Corp"),
    )
    marks = {client: mark_of(vsd, client) for client in (own, other)}
    enterprise = seed.one("/enterprises", "Enterprise")["ID"]
    user = {
        "userName": "new",
        "password": "hidden-word",
        "email": "a@b",
        "firstName": "a",
        "lastName": "b",
    }
    made = root.post(f"/enterprises/{enterprise}/users", user)[2][0]
    told = own.get(f"/events?uuid={marks[own]}")[2]
    assert made["ID"] in event_ids(told) and "hidden-word" not in str(told)
    vsd.admin("POST", "/config", {"event_timeout_s": 0.2})
    assert other.get(f"/events?uuid={marks[other]}")[2]["events"] == []


def test_a_permission_is_told_as_grant_and_revoke_of_its_object(vsd, root, seed):
    mark = mark_of(vsd, root)
    zone = root.get("/zones", filter='name == "Zone 2"')[2][0]
    group = seed.one(
        f"/enterprises/{seed.one('/enterprises', 'Enterprise')['ID']}/groups", "Everybody"
    )
    made = root.post(
        f"/zones/{zone['ID']}/permissions",
        {"permittedEntityID": group["ID"], "permittedAction": "READ"},
    )[2][0]
    assert root.delete(f"/permissions/{made['ID']}")[0] == 204
    told = []
    while ("REVOKE", "zone") not in told:
        body = root.get(f"/events?uuid={mark}")[2]
        mark = body["uuid"]
        told += kinds(body)
    assert [one for one in told if one[0] in ("GRANT", "REVOKE")] == [
        ("GRANT", "zone"),
        ("REVOKE", "zone"),
    ]


def test_events_cannot_be_asked_for_by_other_verbs(root):
    for verb in ("POST", "PUT", "DELETE", "HEAD"):
        assert root.call(verb, "/events", None, {})[0] == 405
