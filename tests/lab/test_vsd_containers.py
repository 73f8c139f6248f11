"""Containers and their interfaces in the VSD simulator, and which addresses they get."""

import ipaddress
import uuid

import pytest

from tests.support.vsd_objects import (
    addresses_of,
    container,
    created,
    eventually,
    interface,
    refused,
)

# -- containers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, property_name",
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"UUID": None}, "UUID"),
        ({"imageID": "x" * 256}, "imageID"),
        ({"computeProvisioned": "no"}, "computeProvisioned"),
    ],
)
def test_a_container_with_a_bad_attribute_is_refused_by_name(root, seed, change, property_name):
    error = refused(
        root.post("/containers", {**container(seed.subnet("Tiny")), **change}), 409, None
    )
    assert error["property"] == property_name


def test_a_mandatory_attribute_cannot_be_cleared_and_an_optional_one_can(root, seed):
    made = created(root, container(seed.subnet("Tiny"), imageName="nginx"))
    assert (
        refused(root.put(f"/containers/{made['ID']}", {"name": None}), 409, 5001)["property"]
        == "name"
    )
    assert root.put(f"/containers/{made['ID']}", {"imageName": None})[0] == 204
    assert root.get(f"/containers/{made['ID']}")[2][0]["imageName"] is None


@pytest.mark.parametrize(
    "change, status, code",
    [
        ({"MAC": "zz:00:00:00:00:01"}, 409, None),
        ({"MAC": None}, 409, None),
        ({"attachedNetworkID": str(uuid.uuid4())}, 404, None),
        ({"attachedNetworkID": None, "VPortID": str(uuid.uuid4())}, 404, None),
        ({"attachedNetworkID": None}, 409, None),
        ({"IPAddress": "10.21.60.0"}, 409, None),
        ({"IPAddress": "10.21.60.7"}, 409, None),
        ({"IPAddress": "10.21.60.1"}, 409, None),
        ({"IPAddress": "10.99.0.5"}, 409, None),
        ({"IPAddress": "no address"}, 409, None),
    ],
)
def test_an_interface_that_cannot_be_is_refused(root, seed, change, status, code):
    tiny = seed.subnet("Tiny")
    answer = root.post(
        "/containers", {**container(tiny), "interfaces": [{**interface(tiny), **change}]}
    )
    error = refused(answer, status, code)
    if "IPAddress" in change:
        wanted = (
            f"IP Address {change['IPAddress']} is not valid or cannot be in reserved address space"
        )
        assert error["descriptions"][0]["description"] == wanted


def test_checks_run_in_the_contracts_order(root, seed):
    tiny = seed.subnet("Tiny")
    first = created(root, container(tiny))
    port = first["interfaces"][0]
    bad = {"MAC": port["MAC"], "attachedNetworkID": tiny["ID"], "IPAddress": port["IPAddress"]}
    refused(
        root.post("/containers", {"UUID": first["UUID"], "name": "x", "interfaces": [bad]}),
        409,
        2748,
    )
    refused(root.post("/containers", {"UUID": "n1", "name": "x", "interfaces": [bad]}), 409, 2510)
    refused(
        root.post(
            "/containers",
            {"UUID": "n1", "name": "x", "interfaces": [{**bad, "MAC": "020000FFFF01"}]},
        ),
        409,
        2704,
    )


def test_a_create_is_all_or_nothing(vsd, root, seed):
    subnet, tiny = seed.subnet("Subnet 2"), seed.subnet("Tiny")
    taken = created(root, container(tiny))["interfaces"][0]["IPAddress"]
    before = vsd.admin("GET", "/vsc/changes")["seq"]
    body = container(subnet, interfaces=[interface(subnet), interface(tiny, IPAddress=taken)])
    refused(root.post("/containers", body), 409, 2704)
    assert (
        addresses_of(root, subnet) == [] and root.get(f"/subnets/{subnet['ID']}/vports")[2] is None
    )
    assert root.get("/containers", filter=f'UUID == "{body["UUID"]}"')[2] is None
    assert vsd.admin("GET", f"/vsc/changes?since={before}")["changes"] == []
    assert created(root, container(subnet))["interfaces"][0]["IPAddress"] == "10.21.59.2"


@pytest.mark.parametrize("wrong", [{}, "", False, [None], "eth0"])
def test_interfaces_that_are_no_list_of_objects_are_refused(root, wrong):
    refused(root.post("/containers", {"UUID": "n1", "name": "x", "interfaces": wrong}), 409, None)
    assert root.get("/containers", filter='UUID == "n1"')[2] in (None, [])


def test_a_container_may_have_several_interfaces_and_get_more_later(root, seed):
    one, two, three = seed.subnet("Subnet 1"), seed.subnet("Subnet 2"), seed.l2domain("L2")
    made = created(root, container(one, interfaces=[interface(one), interface(two)]))
    assert (
        sorted(made["subnetIDs"]) == sorted([one["ID"], two["ID"]]) and len(made["interfaces"]) == 2
    )
    path = f"/containers/{made['ID']}/containerinterfaces"
    status, _, added = root.post(path, interface(three))
    assert status == 201 and added[0]["attachedNetworkType"] == "L2DOMAIN"
    now = root.get(f"/containers/{made['ID']}")[2][0]
    assert now["l2DomainIDs"] == [three["ID"]] and len(now["interfaces"]) == 3 == len(
        root.get(path)[2]
    )
    assert root.get(f"/l2domains/{three['ID']}/containers")[1]["X-Nuage-Count"] == "1"
    assert root.delete(f"/containerinterfaces/{added[0]['ID']}")[0] == 204
    assert root.get(f"/l2domains/{three['ID']}/containers")[2] is None
    assert len(root.get(f"/containers/{made['ID']}")[2][0]["interfaces"]) == 2


def test_one_mac_may_be_on_two_networks_but_not_twice_on_one(root, seed):
    one, two = seed.subnet("Subnet 1"), seed.subnet("Subnet 2")
    mac = "7A:42:D6:AA:D0:11"
    made = created(
        root, container(one, interfaces=[interface(one, MAC=mac), interface(two, MAC=mac)])
    )
    assert made["interfaces"][0]["MAC"] == mac
    body = container(one, interfaces=[interface(one, MAC=mac.lower())])
    assert refused(root.post("/containers", body), 409, 2510)["property"] == "MAC"


def test_a_vport_passed_in_is_used_and_survives_the_container(root, seed):
    subnet = seed.subnet("Subnet 2")
    path = f"/subnets/{subnet['ID']}/vports"
    wanted = {"name": "my port", "type": "CONTAINER", "addressSpoofing": "INHERITED"}
    vport, wrong = (
        root.post(path, wanted)[2][0],
        root.post(path, {**wanted, "name": "vm port", "type": "VM"})[2][0],
    )
    own = {**interface(subnet), "attachedNetworkID": None, "VPortID": vport["ID"]}
    made = created(root, container(subnet, interfaces=[own]))
    assert made["interfaces"][0]["VPortName"] == "my port"
    other = {**interface(subnet), "attachedNetworkID": None, "VPortID": vport["ID"]}
    refused(root.post("/containers", container(subnet, interfaces=[other])), 409, 7010)
    refused(
        root.post("/containers", container(subnet, interfaces=[{**other, "VPortID": wrong["ID"]}])),
        409,
        None,
    )
    assert root.delete(f"/containers/{made['ID']}")[0] == 204
    assert root.get(f"/vports/{vport['ID']}")[0] == 200
    assert root.get(f"/vports/{vport['ID']}/containers")[2] is None


def test_a_put_to_a_uuid_in_use_is_refused_and_nothing_changes(root, seed):
    one, two = (created(root, container(seed.subnet("Subnet 2"))) for _ in range(2))
    refused(root.put(f"/containers/{one['ID']}", {"UUID": two["UUID"], "name": "other"}), 409, 2748)
    now = root.get(f"/containers/{one['ID']}")[2][0]
    assert (now["UUID"], now["name"]) == (one["UUID"], one["name"])


def test_a_put_of_the_whole_object_changes_only_what_a_client_may_change(vsd, root, seed):
    made = created(root, container(seed.subnet("Subnet 2"), computeProvisioned=False))
    assert made["computeProvisioned"] is False
    whole = {
        **made,
        "orchestrationID": "o1",
        "status": "RUNNING",
        "interfaces": [],
        "computeProvisioned": True,
        "odd": 1,
    }
    vsd.admin("POST", "/config", {"put_answers_200": True})
    status, _, body = root.put(f"/containers/{made['ID']}", whole)
    assert status == 200 and body[0]["orchestrationID"] == "o1"
    assert (body[0]["status"], len(body[0]["interfaces"]), body[0]["computeProvisioned"]) == (
        "INIT",
        1,
        False,
    )
    assert (
        root.put(f"/containers/{made['ID']}", {"orchestrationID": None})[2][0]["orchestrationID"]
        is None
    )


def test_an_interface_can_change_its_mac_address_and_endpoint(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    made, other = created(root, container(subnet)), created(root, container(subnet))
    port, path = made["interfaces"][0], f"/containerinterfaces/{made['interfaces'][0]['ID']}"
    wanted = {
        "MAC": "02:42:aa:bb:cc:dd",
        "IPAddress": "10.21.59.77",
        "endpointID": "e" * 64,
        "networkID": "n1",
        "name": "eth",
    }
    assert root.put(path, wanted)[0] == 204
    now = root.get(path)[2][0]
    assert {name: now[name] for name in wanted} == wanted
    refused(root.put(path, wanted), 409, 2039)
    assert (
        refused(root.put(path, {"MAC": other["interfaces"][0]["MAC"]}), 409, 2510)["property"]
        == "MAC"
    )
    refused(root.put(path, {"IPAddress": other["interfaces"][0]["IPAddress"]}), 409, 2704)
    assert (
        vsd.admin("POST", "/vsc/resolve", {"uuid": made["UUID"], "mac": "02:42:AA:BB:CC:DD"})["ip"]
        == "10.21.59.77"
    )
    assert (
        vsd.admin("POST", "/vsc/resolve", {"uuid": made["UUID"], "mac": port["MAC"]})["found"]
        is False
    )
    again = container(
        subnet, interfaces=[interface(subnet, MAC=port["MAC"], IPAddress=port["IPAddress"])]
    )
    assert created(root, again)["interfaces"][0]["IPAddress"] == port["IPAddress"]


def test_a_managed_l2_domain_gives_addresses_and_no_domain_or_zone(root, seed):
    network = seed.l2domain("L2")
    port = created(root, container(network))["interfaces"][0]
    assert port["attachedNetworkType"] == "L2DOMAIN" and port["networkName"] == "L2"
    assert (
        ipaddress.ip_address(port["IPAddress"]) in ipaddress.ip_network("10.30.0.0/24")
        and port["gateway"] == "10.30.0.1"
    )
    assert [port[name] for name in ("domainID", "domainName", "zoneID", "zoneName")] == [None] * 4
    vport = root.get(f"/vports/{port['VPortID']}")[2][0]
    assert (vport["parentType"], vport["domainID"], vport["zoneID"]) == (
        "l2domain",
        network["ID"],
        None,
    )
    group = seed.one(f"/l2domains/{network['ID']}/policygroups", "Web")
    assert root.put(f"/vports/{vport['ID']}/policygroups", [group["ID"]])[0] == 204
    refused(root.put(f"/vports/{vport['ID']}/policygroups", [seed.group("Web")["ID"]]), 409, 7309)


def test_an_unmanaged_l2_domain_gives_no_address_and_takes_none(root, seed):
    network = seed.l2domain("L2 raw")
    port = created(root, container(network))["interfaces"][0]
    assert [port[name] for name in ("IPAddress", "netmask", "gateway")] == [None] * 3
    refused(root.post("/containers", container(network, "10.0.0.5")), 409, None)


def test_a_dual_stack_subnet_gives_both_addresses(vsd, root, seed):
    made = created(root, container(seed.subnet("Dual")))
    port = made["interfaces"][0]
    assert ipaddress.ip_address(port["IPv6Address"]) in ipaddress.ip_network("2001:db8:64::/64")
    assert port["IPv6Gateway"] == "2001:db8:64::1" != port["IPv6Address"] and port[
        "IPAddress"
    ].startswith("10.21.64.")
    answer = vsd.admin("POST", "/vsc/resolve", {"uuid": made["UUID"], "mac": port["MAC"]})
    assert answer["ip6"] == port["IPv6Address"]


def test_a_resync_runs_once_until_a_controller_answers(vsd, root, seed):
    made = created(root, container(seed.subnet("Subnet 2")))
    status, _, body = root.post(f"/containers/{made['ID']}/containerresync")
    assert (
        status == 201
        and body[0]["status"] == "IN_PROGRESS"
        and body[0]["lastRequestTimestamp"] > 10**12
    )
    refused(root.post(f"/containers/{made['ID']}/resync"), 409, 2715)
    mac = made["interfaces"][0]["MAC"]
    vsd.admin("POST", "/vsc/report", {"uuid": made["UUID"], "mac": mac, "state": "running"})
    assert root.get(f"/containers/{made['ID']}")[2][0]["resyncInfo"]["status"] == "SUCCESS"
    assert root.get(f"/containers/{made['ID']}/containerresync")[2][0]["status"] == "SUCCESS"
    assert root.post(f"/containers/{made['ID']}/resync")[0] == 201


def test_a_resync_that_no_controller_answers_deletes_the_container(vsd, root, seed):
    vsd.admin("POST", "/config", {"VMResyncDeletionWaitTime": 0.1})
    made = created(root, container(seed.subnet("Subnet 2")))
    assert root.post(f"/subnets/{seed.subnet('Subnet 2')['ID']}/containerresync")[0] == 201
    refused(root.post(f"/subnets/{seed.subnet('Subnet 2')['ID']}/containerresync"), 409, 2715)
    assert eventually(lambda: root.get(f"/containers/{made['ID']}")[0] == 404)


# -- allocation -----------------------------------------------------------------------------------


def test_a_freed_address_is_avoided_as_long_as_others_are_free(root, seed):
    subnet = seed.subnet("Subnet 2")
    first = created(root, container(subnet))
    freed = first["interfaces"][0]["IPAddress"]
    assert root.delete(f"/containers/{first['ID']}")[0] == 204
    assert freed not in {
        created(root, container(subnet))["interfaces"][0]["IPAddress"] for _ in range(5)
    }
    assert created(root, container(subnet, freed))["interfaces"][0]["IPAddress"] == freed


def test_a_small_subnet_falls_back_to_the_address_freed_longest_ago(root, seed):
    tiny = seed.subnet("Tiny")
    made = [created(root, container(tiny)) for _ in range(5)]
    assert sorted(one["interfaces"][0]["IPAddress"] for one in made) == [
        f"10.21.60.{n}" for n in range(2, 7)
    ]
    refused(root.post("/containers", container(tiny)), 409, 2702)
    for number in (3, 1):
        assert root.delete(f"/containers/{made[number]['ID']}")[0] == 204
    again = [created(root, container(tiny))["interfaces"][0]["IPAddress"] for _ in range(2)]
    assert again == [made[number]["interfaces"][0]["IPAddress"] for number in (3, 1)]


def test_random_allocation_is_not_lowest_first_and_never_gives_an_address_twice(vsd, root, seed):
    vsd.admin("POST", "/config", {"allocation": "random"})
    big, tiny = seed.subnet("Big"), seed.subnet("Tiny")
    given = [created(root, container(big))["interfaces"][0]["IPAddress"] for _ in range(20)]
    assert len(set(given)) == 20 and given != [f"10.40.0.{n}" for n in range(2, 22)]
    assert {created(root, container(tiny))["interfaces"][0]["IPAddress"] for _ in range(5)} == {
        f"10.21.60.{n}" for n in range(2, 7)
    }
    refused(root.post("/containers", container(tiny)), 409, 2702)


def test_ranges_confine_the_automatic_choice_but_not_an_explicit_one(root, seed):
    subnet = seed.subnet("Subnet 2")
    path = f"/subnets/{subnet['ID']}/addressranges"
    made = root.post(path, {"minAddress": "10.21.59.100", "maxAddress": "10.21.59.101"})[2][0]
    assert root.post(path, {"minAddress": "10.21.59.50", "maxAddress": "10.21.59.50"})[0] == 201
    given = [created(root, container(subnet))["interfaces"][0]["IPAddress"] for _ in range(3)]
    assert given == ["10.21.59.50", "10.21.59.100", "10.21.59.101"]
    refused(root.post("/containers", container(subnet)), 409, 2702)
    assert root.post("/containers", container(subnet, "10.21.59.9"))[0] == 201
    assert root.delete(f"/addressranges/{made['ID']}")[0] == 204
    refused(root.post("/containers", container(subnet)), 409, 2702)
    assert root.post(path, {"minAddress": "10.0.0.1", "maxAddress": "10.0.0.9"})[0] == 409


def test_an_address_reserved_for_a_mac_goes_to_that_mac_alone(root, seed):
    tiny = seed.subnet("Tiny")
    body = {"MAC": "02:11:22:33:44:55", "IPAddress": "10.21.60.2"}
    assert root.post(f"/subnets/{tiny['ID']}/ipreservations", body)[0] == 201
    assert created(root, container(tiny))["interfaces"][0]["IPAddress"] == "10.21.60.3"
    refused(root.post("/containers", container(tiny, "10.21.60.2")), 409, 2704)
    own = container(tiny, interfaces=[interface(tiny, MAC="02:11:22:33:44:55".upper())])
    assert created(root, own)["interfaces"][0]["IPAddress"] == "10.21.60.2"


def test_a_reservation_for_later_is_kept_taken_and_given_back(root, seed):
    tiny = seed.subnet("Tiny")
    path = f"/subnets/{tiny['ID']}/vmipreservations"
    made = root.post(path, {"IPType": "IPV4", "IPV4Address": "10.21.60.2"})[2][0]
    assert made["state"] == "UNASSIGNED"
    pools = {
        "IPType": "IPV4",
        "allocationPools": [{"minAddress": "10.21.60.2", "maxAddress": "10.21.60.4"}],
    }
    assert root.post(path, pools)[2][0]["IPV4Address"] == "10.21.60.3"
    refused(root.post(path, {"IPV4Address": "10.21.60.2"}), 409, 7205)
    assert created(root, container(tiny))["interfaces"][0]["IPAddress"] == "10.21.60.4"
    refused(root.post(path, {"IPV4Address": "10.21.60.4"}), 409, 2704)
    taker = created(root, container(tiny, "10.21.60.2"))
    assert root.get(f"/vmipreservations/{made['ID']}")[2][0]["state"] == "ASSIGNED"
    assert root.delete(f"/containers/{taker['ID']}")[0] == 204
    assert root.get(f"/vmipreservations/{made['ID']}")[2][0]["state"] == "UNASSIGNED"
    assert root.delete(path + "?responseChoice=1&IPV4Address=10.21.60.2")[0] == 204
    assert root.get(f"/vmipreservations/{made['ID']}")[0] == 404


def test_a_reservation_deleted_while_in_use_goes_with_its_interface(root, seed):
    tiny = seed.subnet("Tiny")
    made = root.post(f"/subnets/{tiny['ID']}/vmipreservations", {"IPV4Address": "10.21.60.2"})[2][0]
    taker = created(root, container(tiny, "10.21.60.2"))
    assert root.delete(f"/vmipreservations/{made['ID']}")[0] == 204
    assert root.get(f"/vmipreservations/{made['ID']}")[2][0]["state"] == "ASSIGNED_DELETE_PENDING"
    assert root.delete(f"/containers/{taker['ID']}")[0] == 204
    assert root.get(f"/vmipreservations/{made['ID']}")[0] == 404
