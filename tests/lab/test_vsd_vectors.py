"""The conformance vectors of vsd §19, each a test, and where the checklist of vsd §18 is held."""

import ast
import ipaddress
import threading
import time
import uuid
from pathlib import Path

import pytest

from tests.support.vsd_objects import container, created, event_ids, refused


def test_01_a_wrong_password_is_answered_by_an_html_401_that_asks_for_credentials(vsd):
    status, headers, body = vsd.client(password="wrong").get("/me")
    assert status == 401
    assert headers["Content-Type"].startswith("text/html") and "<html>" in body
    assert headers["WWW-Authenticate"] == 'BASIC realm="application"'


def test_02_logging_in_twice_returns_the_same_key_with_the_same_expiry(vsd):
    first, second = vsd.client().me(), vsd.client().me()
    assert (first["APIKey"], first["APIKeyExpiry"]) == (second["APIKey"], second["APIKeyExpiry"])
    assert first["APIKeyExpiry"] > 10**12 and first["password"] is None
    assert first["enterpriseID"] == "76046673-d0ea-4a67-b6af-2829952f0812"


def test_03_an_unpaged_filter_without_match_gives_an_empty_body_and_page_minus_one(root):
    status, headers, body = root.get("/enterprises", filter='name == "nope"')
    assert (status, body, headers["X-Nuage-Count"], headers["X-Nuage-Page"]) == (
        200,
        None,
        "0",
        "-1",
    )
    assert headers["Content-Length"] == "0" and headers["X-Nuage-Filter"] == 'name == "nope"'


def test_04_a_paged_filter_without_match_echoes_the_page(root):
    status, headers, body = root.get("/enterprises", filter='name == "nope"', page=0, page_size=50)
    assert (status, body, headers["X-Nuage-Count"]) == (200, None, "0")
    assert (headers["X-Nuage-Page"], headers["X-Nuage-PageSize"]) == ("0", "50")


def test_05_an_unknown_object_is_a_404_with_its_kind_in_the_title_and_no_code(root):
    status, _, body = root.get(f"/subnets/{uuid.uuid4()}")
    assert status == 404 and body["title"] == "subnet not found" and "internalErrorCode" not in body
    assert body["errors"][0]["descriptions"][0]["title"] == "subnet not found"


def test_06_a_container_without_address_gets_a_free_one_and_a_vport_named_by_its_id(root, seed):
    subnet = seed.subnet("Subnet 2")
    made = created(root, container(subnet))
    port = made["interfaces"][0]
    assert ipaddress.ip_address(port["IPAddress"]) in ipaddress.ip_network("10.21.59.0/24")
    assert (
        port["IPAddress"] != subnet["gateway"] == port["gateway"]
        and port["netmask"] == "255.255.255.0"
    )
    assert port["VPortName"] == port["VPortID"] and port["containerUUID"] == made["UUID"]
    assert (made["status"], made["hypervisorIP"], made["VRSID"]) == ("INIT", "FFFFFF", None)
    assert (made["enterpriseName"], made["userName"], made["subnetIDs"]) == (
        "Enterprise",
        "csproot",
        [subnet["ID"]],
    )
    vport = root.get(f"/vports/{port['VPortID']}")[2][0]
    assert (vport["type"], vport["parentType"], vport["parentID"]) == (
        "CONTAINER",
        "subnet",
        subnet["ID"],
    )
    assert vport["addressSpoofing"] == "INHERITED" and "autoCreated" not in vport


def test_07_a_uuid_in_use_is_refused_with_2748(root, seed):
    first = container(seed.subnet("Subnet 2"))
    created(root, first)
    refused(
        root.post("/containers", container(seed.subnet("Subnet 1"), UUID=first["UUID"])), 409, 2748
    )


def test_08_an_address_in_use_is_refused_with_2704_and_leaves_no_vport_behind(root, seed):
    subnet = seed.subnet("Subnet 2")
    taken = created(root, container(subnet))["interfaces"][0]["IPAddress"]
    error = refused(root.post("/containers", container(subnet, taken)), 409, 2704)
    assert taken in error["descriptions"][0]["description"] and error["property"] == "IPAddress"
    assert root.get(f"/subnets/{subnet['ID']}/vports")[1]["X-Nuage-Count"] == "1"


def test_09_a_full_subnet_is_refused_with_2702(root, seed):
    zone_id = seed.subnet("Subnet 2")["parentID"]
    body = {"name": "Point", "address": "10.9.9.0", "netmask": "255.255.255.252"}
    point = root.post(f"/zones/{zone_id}/subnets", body)[2][0]
    assert point["gateway"] == "10.9.9.1" and 0 < point["vnId"] < 2**24
    assert created(root, container(point))["interfaces"][0]["IPAddress"] == "10.9.9.2"
    refused(root.post("/containers", container(point)), 409, 2702)


def test_10_a_put_renames_a_container_and_its_interface_follows(root, seed):
    made = created(root, container(seed.subnet("Subnet 2")))
    status, _, body = root.put(
        f"/containers/{made['ID']}?responseChoice=1", {"UUID": "d1", "name": "shop"}
    )
    assert (status, body) == (204, None)
    now = root.get(f"/containers/{made['ID']}")[2][0]
    assert (now["UUID"], now["name"], now["interfaces"][0]["containerUUID"]) == ("d1", "shop", "d1")
    assert root.get("/containers", filter='UUID == "d1"')[2][0]["ID"] == made["ID"]
    assert root.get("/containers", filter=f'UUID == "{made["UUID"]}"')[2] is None


def test_11_a_put_that_changes_nothing_is_refused_with_2039(root, seed):
    path = f"/containers/{created(root, container(seed.subnet('Subnet 2')))['ID']}"
    assert root.put(path, {"UUID": "d1", "name": "shop"})[0] == 204
    error = refused(root.put(path, {"UUID": "d1", "name": "shop"}), 409, 2039)
    assert error["descriptions"][0]["title"] == "No changes to modify the entity"


def test_12_policy_groups_of_a_vport_are_replaced_as_a_whole(root, seed):
    port = created(root, container(seed.subnet("Subnet 2")))["interfaces"][0]
    path, web = f"/vports/{port['VPortID']}/policygroups", seed.group("Web")
    assert root.put(path, [web["ID"]])[0] == 204
    assert [group["name"] for group in root.get(path)[2]] == ["Web"]
    assert [one["ID"] for one in root.get(f"/policygroups/{web['ID']}/vports")[2]] == [
        port["VPortID"]
    ]
    assert root.get(f"/containerinterfaces/{port['ID']}/policygroups")[1]["X-Nuage-Count"] == "1"
    assert root.put(path, [])[0] == 204
    assert root.get(path)[2] is None


def test_13_a_policy_group_of_another_domain_is_refused_with_7309_and_nothing_changes(root, seed):
    made = created(root, container(seed.subnet("Subnet 2")))
    path = f"/vports/{made['interfaces'][0]['VPortID']}/policygroups"
    assert root.put(path, [seed.group("DB")["ID"]])[0] == 204
    refused(
        root.put(path, [seed.group("Web")["ID"], seed.group("Web", "Domain B")["ID"]]), 409, 7309
    )
    assert [group["name"] for group in root.get(path)[2]] == ["DB"]


def test_14_a_deleted_container_takes_its_vport_with_it_and_frees_its_address(root, seed):
    subnet = seed.subnet("Subnet 2")
    made = created(root, container(subnet, "10.21.59.7"))
    assert root.delete(f"/containers/{made['ID']}?responseChoice=1")[0] == 204
    assert root.get(f"/vports/{made['interfaces'][0]['VPortID']}")[0] == 404
    assert root.get(f"/containerinterfaces/{made['interfaces'][0]['ID']}")[0] == 404
    assert (
        created(root, container(subnet, "10.21.59.7"))["interfaces"][0]["IPAddress"] == "10.21.59.7"
    )


def test_15_deleting_a_container_twice_is_a_404(root, seed):
    path = f"/containers/{created(root, container(seed.subnet('Subnet 2')))['ID']}?responseChoice=1"
    assert root.delete(path)[0] == 204
    status, _, body = root.delete(path)
    assert status == 404 and body["title"] == "container not found"


def test_16_a_host_with_120_containers_is_listed_in_pages_of_50_50_and_20(root, seed):
    subnet = seed.subnet("Big")
    ids = {created(root, container(subnet, externalID="busy"))["ID"] for _ in range(120)}
    created(root, container(subnet, externalID="other"))
    pages = [
        root.get("/containers", filter='externalID == "busy"', page=n, page_size=50)
        for n in range(4)
    ]
    assert [len(body or []) for _, _, body in pages] == [50, 50, 20, 0]
    assert {headers["X-Nuage-Count"] for _, headers, _ in pages} == {"120"}
    assert {one["ID"] for _, _, body in pages for one in body or []} == ids


def test_17_an_expired_key_is_an_html_401_and_a_new_log_in_gives_a_new_key(vsd):
    client = vsd.client()
    old = client.me()["APIKey"]
    vsd.admin("POST", "/expire-keys")
    status, headers, _ = client.get("/enterprises")
    assert status == 401 and headers["Content-Type"].startswith("text/html")
    assert vsd.client().me()["APIKey"] != old


def test_18_events_tell_of_a_new_container_once_and_resume_by_uuid(vsd, root, seed):
    subnet, answers, listener, made = seed.subnet("Subnet 2"), [], vsd.client(), set()
    thread = threading.Thread(target=lambda: answers.append(listener.get("/events")))
    thread.start()
    deadline = time.monotonic() + 40
    # It must wait before something happens, so go on.
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(0.2)
        made.add(created(root, container(subnet))["ID"])
    status, _, body = answers[0]
    assert status == 200
    kinds = {(event["type"], event["entityType"]) for event in body["events"]}
    assert kinds >= {("CREATE", "container"), ("CREATE", "vport"), ("CREATE", "containerinterface")}
    told = [event for event in body["events"] if event["entityType"] == "container"]
    assert (
        told[0]["entities"][0]["ID"] in made
        and told[0]["entities"][0]["interfaces"][0]["IPAddress"]
    )
    assert "assoicatedEvent" in told[0]
    vsd.admin("POST", "/config", {"event_timeout_s": 0.1})
    later = root.get(f"/events?uuid={body['uuid']}")[2]
    assert not event_ids(body) & event_ids(later) and later["uuid"] != body["uuid"]
    assert root.get(f"/events?uuid={later['uuid']}")[2]["events"] == []


# -- the checklist of vsd §18: each item is held by tests that exist ------------------------------

_CHECKLIST = {
    "1 TLS with a generated CA, ports, mutual TLS": {
        "test_vsd_http": [
            "test_the_certificate_is_verified_by_the_labs_ca_and_by_no_other",
            "test_a_client_certificate_names_the_user_on_the_port_with_mutual_tls",
        ]
    },
    "2 a stable key of 24 h, HTML 401": {
        "test_vsd_vectors": [
            "test_01_a_wrong_password_is_answered_by_an_html_401_that_asks_for_credentials",
            "test_02_logging_in_twice_returns_the_same_key_with_the_same_expiry",
            "test_17_an_expired_key_is_an_html_401_and_a_new_log_in_gives_a_new_key",
        ],
        "test_vsd_http": ["test_a_key_ends_after_its_validity"],
    },
    "3 organisation, both schemes, proxy user": {
        "test_vsd_http": [
            "test_the_organisation_is_checked_on_every_call",
            "test_both_authorisation_schemes_are_accepted_in_any_case",
            "test_a_proxy_user_owns_what_is_created",
        ]
    },
    "4 the hierarchy from a seed file": {
        "test_vsd_admin": ["test_a_seed_of_ones_own_replaces_the_packaged_one"]
    },
    "5 collections: filter, order, pages, empty body, count": {
        "test_vsd_lists": [
            "test_the_filter_grammar_selects_subnets",
            "test_lists_are_ordered_as_asked",
            "test_pages_are_capped_and_an_unpaged_list_is_cut_while_the_count_is_whole",
        ],
        "test_vsd_vectors": [
            "test_03_an_unpaged_filter_without_match_gives_an_empty_body_and_page_minus_one"
        ],
    },
    "6 containers and their addresses, all or nothing": {
        "test_vsd_containers": [
            "test_a_create_is_all_or_nothing",
            "test_checks_run_in_the_contracts_order",
        ]
    },
    "7 membership by PUT and PATCH, 7309": {
        "test_vsd_vectors": [
            "test_13_a_policy_group_of_another_domain_is_refused_with_7309_and_nothing_changes"
        ],
        "test_vsd_tree": ["test_membership_is_added_and_removed_by_patch"],
    },
    "8 error bodies, 2039, the 300": {
        "test_vsd_vectors": ["test_11_a_put_that_changes_nothing_is_refused_with_2039"],
        "test_vsd_admin": ["test_a_demanded_confirmation_is_a_300_until_the_choice_is_made"],
    },
    "9 events by long poll, ring and uuid": {
        "test_vsd_vectors": ["test_18_events_tell_of_a_new_container_once_and_resume_by_uuid"],
        "test_vsd_events": ["test_a_uuid_whose_place_in_the_ring_was_overwritten_is_refused"],
    },
    "10 ordered faults": {
        "test_vsd_ordered_faults": [
            "test_an_ordered_status_is_answered_once_and_nothing_is_done",
            "test_an_ordered_reset_does_nothing_and_one_after_the_work_leaves_it_done",
            "test_an_ordered_malformed_or_empty_body_comes_after_the_work",
        ]
    },
    "11 the link to the lab's VRS": {
        "test_vsd_admin": [
            "test_a_running_entity_makes_its_container_run_and_a_gone_one_waits_for_deletion",
            "test_an_entity_is_resolved_by_exact_uuid_and_mac_in_any_case",
        ]
    },
    "12 a request log without credentials": {
        "test_vsd_admin": ["test_requests_are_remembered_and_counted_without_credentials"]
    },
}


@pytest.mark.parametrize("item", _CHECKLIST)
def test_each_item_of_the_checklist_is_held_by_tests_that_exist(item):
    for module, names in _CHECKLIST[item].items():
        tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8"))
        assert set(names) <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
