"""Enterprises, domains, zones, subnets, groups and users of the VSD simulator: what may be made,
changed and deleted.
"""

import uuid

import pytest

from tests.support.vsd_objects import container, created, refused

# -- the tree -------------------------------------------------------------------------------------


def test_two_zones_may_have_subnets_of_one_name_and_each_zone_finds_its_own(root, seed):
    assert seed.subnet("Subnet 1", "Zone")["address"] == "10.21.58.0"
    assert seed.subnet("Subnet 1", "Zone 2")["address"] == "10.21.62.0"
    both = root.get(f"/domains/{seed.domain()['ID']}/subnets", filter='name == "Subnet 1"')[2]
    assert len(both) == 2


def test_overlapping_subnets_of_other_domains_and_enterprises_have_numbers_of_their_own(seed):
    same = [
        seed.subnet("Subnet 2"),
        seed.subnet("Subnet 2", domain="Domain B"),
        seed.subnet("Subnet 2", enterprise="Other Corp"),
    ]
    assert {one["address"] for one in same} == {"10.21.59.0"}
    assert (
        len({one["vnId"] for one in same}) == 3 == len({one["gatewayMACAddress"] for one in same})
    )


def test_a_subnet_being_torn_down_is_still_listed_with_its_state(seed):
    assert seed.subnet("Old_MARKED_FOR_DELETION")["entityState"] == "MARKED_FOR_DELETION"


def test_a_new_domain_has_a_backhaul_zone_and_subnet(root, seed):
    enterprise = seed.one("/enterprises", "Enterprise")["ID"]
    assert (
        root.post(f"/enterprises/{enterprise}/domains", {"name": "New"})[2]["errors"][0]["property"]
        == "templateID"
    )
    template = root.post(f"/enterprises/{enterprise}/domaintemplates", {"name": "T"})[2][0]
    made = root.post(
        f"/enterprises/{enterprise}/domains", {"name": "New", "templateID": template["ID"]}
    )[2][0]
    assert [one["name"] for one in root.get(f"/domains/{made['ID']}/zones")[2]] == ["BackHaulZone"]
    assert [one["name"] for one in root.get(f"/domains/{made['ID']}/subnets")[2]] == [
        "BackHaulSubnet"
    ]
    refused(root.delete(f"/domaintemplates/{template['ID']}"), 409, 2506)
    assert root.delete(f"/domains/{made['ID']}")[0] == 204
    assert root.get(f"/domains/{made['ID']}/zones")[0] == 404
    assert root.delete(f"/domaintemplates/{template['ID']}")[0] == 204


@pytest.mark.parametrize(
    "body, code, name",
    [
        ({"name": "Tiny", "address": "10.7.0.0", "netmask": "255.255.255.0"}, 2505, "name"),
        ({"name": "New", "netmask": "255.255.255.0"}, None, "address"),
        ({"name": "New", "address": "10.7.0.1", "netmask": "255.255.255.0"}, None, "address"),
        (
            {
                "name": "New",
                "address": "10.7.0.0",
                "netmask": "255.255.255.0",
                "gateway": "10.8.0.1",
            },
            None,
            "gateway",
        ),
        (
            {
                "name": "New",
                "address": "10.7.0.0",
                "netmask": "255.255.255.0",
                "gateway": "10.7.0.0",
            },
            None,
            "gateway",
        ),
        (
            {
                "name": "New",
                "address": "10.7.0.0",
                "netmask": "255.255.255.0",
                "gateway": "10.7.0.255",
            },
            None,
            "gateway",
        ),
        ({"name": "New", "address": "10.7.0.0", "netmask": "24"}, None, "netmask"),
        ({"name": "New", "address": "10.7.0.0", "netmask": "0.0.0.255"}, None, "netmask"),
        ({"name": "New", "address": "10.7.0.0", "netmask": "255.255.255.254"}, None, "address"),
        ({"name": "New", "address": "0.0.0.0", "netmask": "0.0.0.0"}, None, "address"),
        ({"name": "New", "address": "127.0.0.0", "netmask": "255.255.255.0"}, None, "address"),
        ({"name": "New", "address": "224.0.0.0", "netmask": "255.255.255.0"}, None, "address"),
        ({"name": "New", "address": "240.0.0.0", "netmask": "255.255.255.0"}, None, "address"),
        ({"name": "New", "address": "2001:db8::", "netmask": "64"}, None, "address"),
        ({"name": "New", "IPType": "IPV6", "IPv6Address": "fe80::/64"}, None, "IPv6Address"),
        ({"name": "New", "IPType": "IPV6", "IPv6Address": "ff02::/64"}, None, "IPv6Address"),
        ({"name": "New", "IPType": "IPV6", "IPv6Address": "2001:db8::/128"}, None, "IPv6Address"),
        ({"name": "New", "IPType": "IPV6", "IPv6Address": "10.7.0.0/24"}, None, "IPv6Address"),
        ({"name": "New", "address": "10.21.59.0", "netmask": "255.255.255.0"}, None, "address"),
        ({"address": "10.7.0.0", "netmask": "255.255.255.0"}, None, "name"),
        (
            {
                "name": "New",
                "address": "10.7.0.0",
                "netmask": "255.255.255.0",
                "multicast": "MAYBE",
            },
            None,
            "multicast",
        ),
        ({"name": "x" * 256, "address": "10.7.0.0", "netmask": "255.255.255.0"}, None, "name"),
        ({"name": 5, "address": "10.7.0.0", "netmask": "255.255.255.0"}, None, "name"),
    ],
)
def test_a_subnet_that_breaks_a_rule_is_refused_with_the_attribute_named(
    root, seed, body, code, name
):
    error = refused(root.post(f"/zones/{seed.subnet('Tiny')['parentID']}/subnets", body), 409, code)
    assert error["property"] == name


def test_the_contracts_texts_say_why_a_subnet_is_refused(root, seed):
    path = f"/zones/{seed.subnet('Tiny')['parentID']}/subnets"
    body = {"name": "New", "address": "10.7.0.0", "netmask": "255.255.255.0"}
    for change, text in (
        ({"gateway": "10.7.0.255"}, "Gateway is not valid on subnet"),
        ({"gateway": "10.8.0.1"}, "Network Gateway IP Address 10.8.0.1 is out of range."),
        (
            {"address": "224.0.0.0"},
            "IP Address 224.0.0.0 is not valid or cannot be in reserved address space",
        ),
    ):
        error = refused(root.post(path, {**body, **change}), 409, None)
        assert error["descriptions"][0]["description"] == text


def test_duplicates_among_siblings_have_their_codes(root, seed):
    domain, enterprise = seed.domain(), seed.one("/enterprises", "Enterprise")
    refused(root.post(f"/domains/{domain['ID']}/zones", {"name": "Zone"}), 409, 2510)
    refused(root.post("/enterprises", {"name": "Enterprise"}), 409, 2510)
    refused(
        root.post(f"/domains/{domain['ID']}/policygroups", {"name": "Web", "type": "SOFTWARE"}),
        409,
        9501,
    )
    user = {"userName": "admin", "password": "x", "email": "a@b", "firstName": "a", "lastName": "b"}
    refused(root.post(f"/enterprises/{enterprise['ID']}/users", user), 409, 2510)
    assert root.put(f"/zones/{seed.subnet('Tiny')['parentID']}", {"externalID": "e1"})[0] == 204
    refused(
        root.post(f"/domains/{domain['ID']}/zones", {"name": "Z3", "externalID": "e1"}), 409, 2510
    )


def test_what_is_in_use_cannot_be_deleted(root, seed):
    subnet, domain = seed.subnet("Subnet 2"), seed.domain()
    made = created(root, container(subnet))
    vport, web = made["interfaces"][0]["VPortID"], seed.group("Web")["ID"]
    assert root.put(f"/vports/{vport}/policygroups", [web])[0] == 204
    refused(root.delete(f"/subnets/{subnet['ID']}"), 409, 2506)
    refused(root.delete(f"/zones/{subnet['parentID']}"), 409, 2506)
    refused(root.delete(f"/domains/{domain['ID']}"), 409, 2506)
    refused(root.delete(f"/vports/{vport}"), 409, 7010)
    refused(root.delete(f"/policygroups/{web}"), 409, 7097)
    refused(
        root.put(f"/subnets/{subnet['ID']}", {"address": "10.99.0.0", "gateway": "10.99.0.1"}),
        409,
        2506,
    )
    assert root.delete(f"/containers/{made['ID']}")[0] == 204
    assert root.delete(f"/policygroups/{web}")[0] == 204
    assert root.delete(f"/subnets/{subnet['ID']}")[0] == 204
    assert root.get(f"/subnets/{subnet['ID']}")[0] == 404


def test_the_system_enterprise_and_its_user_stay(root, seed):
    refused(root.delete("/enterprises/76046673-d0ea-4a67-b6af-2829952f0812"), 409, 2010)
    user = root.get("/users", filter='userName == "csproot"')[2][0]
    refused(root.delete(f"/users/{user['ID']}"), 409, 2013)
    assert user["password"] is None


def test_a_new_user_can_log_in_and_join_a_group(vsd, root, seed):
    enterprise = seed.one("/enterprises", "Enterprise")["ID"]
    user = {
        "userName": "new",
        "password": "secret",
        "email": "a@b",
        "firstName": "a",
        "lastName": "b",
    }
    made = root.post(f"/enterprises/{enterprise}/users", user)[2][0]
    assert made["password"] is None
    group = seed.one(f"/enterprises/{enterprise}/groups", "CMS Group")["ID"]
    assert (
        root.call("PATCH", f"/groups/{group}/users", [made["ID"]], {"X-Nuage-PatchType": "add"})[0]
        == 204
    )
    client = vsd.client("new", "secret", "Enterprise")
    assert client.me()["role"] == "CMS"
    assert client.post("/containers", container(seed.subnet("Subnet 2")))[0] == 201


def test_membership_is_added_and_removed_by_patch(root, seed):
    made = created(root, container(seed.subnet("Subnet 2")))
    path = f"/vports/{made['interfaces'][0]['VPortID']}/policygroups"
    web, db = seed.group("Web")["ID"], seed.group("DB")["ID"]
    assert root.put(path, [web])[0] == 204
    assert root.patch(path, [db], "add")[0] == 204
    assert [one["name"] for one in root.get(path)[2]] == ["DB", "Web"]
    assert root.patch(path, [web], "remove")[0] == 204
    assert [one["name"] for one in root.get(path)[2]] == ["DB"]
    assert root.patch(path, [web], "twist")[0] == 400
    status, _, body = root.put(path, [str(uuid.uuid4())])
    assert status == 404 and body["title"] == "policygroup not found"
    assert [one["name"] for one in root.get(path)[2]] == ["DB"]
