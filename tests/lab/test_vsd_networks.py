"""Membership, templates, domains, networks, addresses and containers (vsd §7, §9,
§11 to §13), by correct and by hostile requests.
"""

import ipaddress
import uuid

import pytest

from tests.support.vsd_kinds import made_in
from tests.support.vsd_objects import addresses_of, container, created, interface, refused

# -- membership (vsd §9) --------------------------------------------------------------------------


def test_membership_is_changed_from_both_sides_and_all_or_nothing(root, places, seed):
    vport, web, db = places["vports"], places["policygroups"], seed.group("DB")["ID"]
    assert root.put(f"/policygroups/{web}/vports", [vport])[0] == 204
    assert [one["ID"] for one in root.get(f"/vports/{vport}/policygroups")[2]] == [web]
    status, _, _ = root.put(f"/vports/{vport}/policygroups", [db, str(uuid.uuid4())])
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


# -- templates, domains, networks (vsd §7, §9, §13) -----------------------------------------------


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


@pytest.mark.parametrize(
    "body, name",
    [
        (
            {"IPType": "DUALSTACK", "address": "10.77.0.0", "netmask": "255.255.255.0"},
            "IPv6Address",
        ),
        ({"IPType": "DUALSTACK", "IPv6Address": "2001:db8:77::/64"}, "address"),
        ({"IPType": "IPV6"}, "IPv6Address"),
        (
            {
                "IPType": "IPV6",
                "IPv6Address": "2001:db8:77::/64",
                "address": "10.77.0.0",
                "netmask": "255.255.255.0",
            },
            "address",
        ),
        (
            {"address": "10.77.0.0", "netmask": "255.255.255.0", "IPv6Address": "2001:db8:77::/64"},
            "IPv6Address",
        ),
        ({"IPType": "IPV6", "IPv6Address": "2001:db8:77::1/64"}, "IPv6Address"),
        ({"IPType": "IPV6", "IPv6Address": "2001:db8:64::/80"}, "IPv6Address"),
        (
            {"IPType": "IPV6", "IPv6Address": "2001:db8:77::/64", "IPv6Gateway": "2001:db8:78::1"},
            "IPv6Gateway",
        ),
        ({"IPType": "IPV6", "IPv6Address": "no network"}, "IPv6Address"),
        ({"address": "10.77.0.0", "netmask": "255.0.255.0"}, "address"),
        ({"address": "10.77.0.0", "netmask": "255.255.255.0", "gateway": "next door"}, "gateway"),
    ],
)
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
        for wanted in (
            {"IPAddress": "10.21.64.50"},
            {"IPv6Address": "2001:db8:64::50/64"},
            {"IPAddress": "10.21.64.60", "IPv6Address": "2001:db8:64::60"},
            {},
        )
    ]
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
    body = {
        "name": "manual",
        "IPType": "DUALSTACK",
        "address": "10.77.0.0",
        "netmask": "255.255.255.0",
        "IPv6Address": "2001:db8:77::/64",
        "dualStackDynamicIPAllocation": False,
    }
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


# -- addresses (vsd §9, §12) ----------------------------------------------------------------------


def test_the_list_of_recently_freed_addresses_holds_32_and_then_lets_the_oldest_go(root, seed):
    subnet = seed.subnet("Subnet 2")
    made = [created(root, container(subnet)) for _ in range(33)]
    assert sorted(addresses_of(root, subnet), key=ipaddress.ip_address) == [
        f"10.21.59.{number}" for number in range(2, 35)
    ]
    for one in made:
        assert root.delete(f"/containers/{one['ID']}")[0] == 204
    # 33 were freed: the one freed first has left the list and is the lowest; the others are still
    # avoided
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


@pytest.mark.parametrize(
    "body, status, code",
    [
        ({}, 409, None),
        ({"IPV4Address": "10.99.0.1"}, 409, None),
        ({"IPV4Address": "10.21.60.1"}, 409, None),
        ({"IPV4Address": "10.21.60.7"}, 409, None),
        ({"allocationPools": [{"minAddress": "10.21.60.2"}]}, 409, None),
        ({"allocationPools": ["x"]}, 409, None),
        ({"allocationPools": [{"minAddress": "10.1.0.1", "maxAddress": "10.1.0.2"}]}, 409, None),
        ({"IPV6Address": "2001:db8::5"}, 409, None),
        (
            {"allocationPools": [{"minAddress": "10.21.60.5", "maxAddress": "10.21.60.3"}]},
            409,
            None,
        ),
    ],
)
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
    both = made_in(
        root,
        f"/subnets/{dual['ID']}/vmipreservations",
        {
            "IPType": "DUALSTACK",
            "IPV4Address": "10.21.64.9",
            "externalID": "task-1",
            "IPV6AllocationPools": [
                {"minAddress": "2001:db8:64::9", "maxAddress": "2001:db8:64::f"}
            ],
        },
    )
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


# -- containers (vsd §11) -------------------------------------------------------------------------


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
