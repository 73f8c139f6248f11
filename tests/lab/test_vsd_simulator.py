"""The VSD simulator against its contract: the rules around the vectors, which are in test_vsd_vectors.py."""

import base64
import ipaddress
import re
import socket
import ssl
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.vsd import VsdSimulator
from tests.support.vsd_objects import (
    addresses_of,
    container,
    created,
    eventually,
    interface,
    refused,
)

# --- transport, log-in, headers ------------------------------------------------------------------------------------


def test_the_certificate_is_verified_by_the_labs_ca_and_by_no_other(vsd):
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(vsd.url + "/nuage/api/v6/me", timeout=60)
    assert (
        requests.get(vsd.url + "/nuage/api/v6/me", timeout=60, verify=vsd.ca_file).status_code
        == 401
    )


@pytest.mark.parametrize("scheme", ["XREST", "Basic", "xrest", "BASIC"])
def test_both_authorisation_schemes_are_accepted_in_any_case(vsd, scheme):
    client = vsd.client()
    client.scheme = scheme
    assert client.me()["userName"] == "csproot"


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
def test_other_authorisation_schemes_are_refused(vsd, scheme):
    client = vsd.client()
    client.scheme = scheme
    assert client.get("/me")[0] == 401


@pytest.mark.parametrize(
    "organization, status",
    [("csp", 200), ("CSP", 200), ("Enterprise", 401), ("nope", 401), (None, 401)],
)
def test_the_organisation_must_be_the_users_own_in_any_case(vsd, organization, status):
    assert vsd.client(organization=organization).get("/me")[0] == status


def test_the_organisation_is_checked_on_every_call(root):
    assert root.get("/enterprises")[0] == 200
    root.organization = None
    assert root.get("/enterprises")[0] == 401


def test_a_key_belongs_to_its_user_alone(vsd):
    key = vsd.client().me()["APIKey"]
    assert vsd.client("admin", key, "Enterprise").get("/me")[0] == 401
    assert vsd.client("csproot", key, "csp").get("/enterprises")[0] == 200


def test_a_key_in_its_renewal_window_is_replaced_but_stays_valid(vsd):
    vsd.admin("POST", "/config", {"key_validity_s": 600, "key_renewal_s": 60})
    old = vsd.client()
    first = old.me()
    vsd.admin("POST", "/config", {"key_validity_s": 86400, "key_renewal_s": 1200})
    second = vsd.client().me()
    assert second["APIKey"] != first["APIKey"] and second["APIKeyExpiry"] > first["APIKeyExpiry"]
    assert old.get("/enterprises")[0] == 200


def test_a_key_ends_after_its_validity(vsd):
    vsd.admin("POST", "/config", {"key_validity_s": 0.3, "key_renewal_s": 0.01})
    client = vsd.client()
    client.me()
    deadline = time.monotonic() + 60
    while client.get("/enterprises")[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.get("/enterprises")[0] == 401


def test_an_account_is_locked_after_too_many_failed_log_ins(vsd):
    vsd.admin("POST", "/config", {"max_failed_logins": 2})
    for _ in range(2):
        assert vsd.client("viewer", "wrong", "Enterprise").get("/me")[0] == 401
    assert vsd.client("viewer", "viewer", "Enterprise").get("/me")[0] == 401


def test_a_tenants_user_sees_only_its_enterprise(vsd, root, seed):
    tenant = vsd.client("admin", "admin", "Other Corp")
    assert [one["name"] for one in tenant.get("/enterprises")[2]] == ["Other Corp"]
    foreign = seed.subnet("Subnet 2")
    assert tenant.get(f"/subnets/{foreign['ID']}")[0] == 404
    assert tenant.post("/containers", container(foreign))[0] == 404
    assert root.get("/containers")[2] is None


def test_creating_containers_needs_the_cms_role(vsd, seed):
    subnet = seed.subnet("Subnet 2")
    assert (
        vsd.client("designer", "designer", "Enterprise").post("/containers", container(subnet))[0]
        == 401
    )
    made = created(vsd.client("admin", "admin", "Enterprise"), container(subnet))
    assert (made["userName"], made["enterpriseName"]) == ("admin", "Enterprise")
    assert (
        vsd.client("viewer", "viewer", "Enterprise").delete(f"/containers/{made['ID']}")[0] == 403
    )


@pytest.mark.parametrize("proxy", ["admin@Enterprise", "Enterprise@admin"])
def test_a_proxy_user_owns_what_is_created(root, seed, proxy):
    body = container(seed.subnet("Subnet 2"))
    made = root.post("/containers", body, X_Nuage_ProxyUser=proxy)[2][0]
    assert made["userName"] == "admin"
    assert [one["ID"] for one in root.get(f"/users/{made['userID']}/containers")[2]] == [made["ID"]]


def test_an_unknown_proxy_user_is_forbidden(root, seed):
    assert (
        root.post(
            "/containers", container(seed.subnet("Subnet 2")), X_Nuage_ProxyUser="nobody@Enterprise"
        )[0]
        == 403
    )


def test_a_plain_list_carries_only_order_and_count_and_every_reply_is_uncached(root):
    status, headers, body = root.get("/enterprises")
    assert (
        status == 200
        and headers["X-Nuage-Count"] == str(len(body))
        and headers["X-Nuage-OrderBy"] == "name ASC"
    )
    assert "X-Nuage-Page" not in headers and "X-Nuage-PageSize" not in headers
    assert (
        headers["Access-Control-Allow-Origin"] == "*"
        and headers["Cache-Control"] == "no-cache"
        and "Date" in headers
    )


def test_older_api_roots_hide_what_is_newer(vsd, root, seed):
    subnet = seed.subnet("Subnet 2")
    for version, has_vnid, has_v5, has_v6 in (
        ("v3_2", 1, 0, 0),
        ("v4_0", 1, 0, 0),
        ("v5_0", 1, 1, 0),
        ("v6", 1, 1, 1),
    ):
        shown = vsd.client(version=version).get(f"/subnets/{subnet['ID']}")[2][0]
        seen = ("vnId" in shown, "entityState" in shown, "enableDHCPv4" in shown)
        assert seen == (bool(has_vnid), bool(has_v5), bool(has_v6)), version
    made = created(root, container(subnet))
    older = vsd.client(version="v4_0").get(f"/containers/{made['ID']}")[2][0]
    assert "computeProvisioned" not in older and "IPv6Address" not in older["interfaces"][0]
    assert vsd.client(version="v3_2").get("/containers")[0] == 404
    assert vsd.client(version="v5_0").get(f"/subnets/{subnet['ID']}/vmipreservations")[0] == 404
    assert vsd.client(version="v7").get("/me")[0] == 404


def test_unknown_paths_are_html_404s_and_wrong_verbs_405s(root, seed):
    for path in (
        "/nonsense",
        "/vports",
        f"/subnets/{seed.subnet('Subnet 2')['ID']}/users",
        "/a/b/c/d",
    ):
        status, headers, _ = root.get(path)
        assert status == 404 and headers["Content-Type"].startswith("text/html"), path
    assert root.post("/subnets", {"name": "x"})[0] == 405
    assert root.put("/me", {})[0] == 405


def test_a_body_that_is_no_json_is_a_400(root):
    status, _, body = root.post("/containers", "{broken")
    assert status == 400 and body["errors"][0]["descriptions"]


def spoken(vsd, *pieces):
    """Return the whole answer to bytes on a TLS connection of its own, sent piece by piece; the client closes its side behind them."""
    context = ssl.create_default_context(cafile=vsd.ca_file)
    with socket.create_connection(
        ("127.0.0.1", int(vsd.url.rpartition(":")[2])), timeout=60
    ) as connection:
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            for piece in pieces:
                tls.sendall(piece)
            answer = b""
            while b"\r\n\r\n" not in answer:
                piece = tls.recv(65536)
                if not piece:
                    break
                answer += piece
    return answer


def chunked_head(root):
    """The head of a POST of an enterprise whose body comes in chunks."""
    secret = base64.b64encode(f"csproot:{root.secret}".encode()).decode()
    return (f"POST /nuage/api/v6/enterprises HTTP/1.1\r\nHost: vsd\r\nAuthorization: XREST {secret}\r\nX-Nuage-Organization: csp\r\n"
            "Transfer-Encoding: chunked\r\n\r\n").encode()  # fmt: skip


def test_a_body_may_come_in_chunks(vsd, root):
    body = (b'{"name":', b'"In chunks"}')
    answer = spoken(
        vsd,
        chunked_head(root),
        *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in body),
        b"0\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert root.get("/enterprises", filter='name == "In chunks"')[1]["X-Nuage-Count"] == "1"


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"1\r\n{XX0\r\n\r\n", b"f" * 40 + b"\r\n"])
def test_chunks_that_are_none_are_a_400_in_the_log_of_requests_and_no_noise(vsd, root, chunks):
    since, noise = vsd.admin("GET", "/requests")["seq"], vsd.errors()
    assert spoken(vsd, chunked_head(root), chunks).startswith(b"HTTP/1.1 400 ")
    assert [
        (one["method"], one["status"])
        for one in vsd.admin("GET", f"/requests?since={since}")["requests"]
    ] == [("POST", 400)]
    assert vsd.errors() == noise


@pytest.mark.parametrize(
    "garbage",
    [b"\0\1\2\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)
def test_what_is_no_http_is_a_400_and_no_noise(vsd, garbage):
    noise = vsd.errors()
    assert spoken(vsd, garbage).startswith(b"HTTP/1.1 400 ")
    assert vsd.errors() == noise


def test_a_body_that_ends_too_early_is_no_noise(vsd, root):
    since, noise = vsd.admin("GET", "/requests")["seq"], vsd.errors()
    with socket.create_connection(
        ("127.0.0.1", int(vsd.url.rpartition(":")[2])), timeout=60
    ) as connection:
        tls = ssl.create_default_context(cafile=vsd.ca_file).wrap_socket(
            connection, server_hostname="localhost"
        )
        tls.sendall(
            b"POST /nuage/api/v6/enterprises HTTP/1.1\r\nHost: vsd\r\nContent-Length: 99\r\n\r\n{"
        )
        tls.close()
    assert eventually(
        lambda: [
            one
            for one in vsd.admin("GET", f"/requests?since={since}")["requests"]
            if one["status"] == 400
        ]
    )
    assert vsd.errors() == noise


def test_a_client_certificate_names_the_user_on_the_port_with_mutual_tls():
    with VsdSimulator(
        "--mtls-listen", "127.0.0.1:0", "--client-certificate", "admin", "--release", "6.0"
    ) as own:
        pair = (str(own.state_dir / "admin.pem"), str(own.state_dir / "admin.key"))
        url = f"{own.mtls_url}/nuage/api/v6"
        body = requests.get(url + "/me", cert=pair, verify=own.ca_file, timeout=60).json()
        assert (body[0]["userName"], body[0]["enterpriseName"]) == ("admin", "Enterprise")
        organization = {"X-Nuage-Organization": "Other Corp"}
        body = requests.get(
            url + "/me", cert=pair, verify=own.ca_file, timeout=60, headers=organization
        ).json()
        assert body[0]["enterpriseName"] == "Other Corp"
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(url + "/me", verify=own.ca_file, timeout=60)
        root = own.client()
        subnet = root.get("/subnets", filter='name == "Tiny"')[2][0]
        assert "wbxDisableMacMove" not in subnet and "enableDHCPv4" in subnet
        assert root.get(f"/subnets/{subnet['ID']}/vmipreservations")[0] == 404
        root.close()
        assert "Traceback" not in own.errors()


# --- filters, order, pages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, names", [
    ('name == "Tiny"', ["Tiny"]),
    ("name == 'Tiny'", ["Tiny"]),
    ("name=Tiny", ["Tiny"]),
    ("name IS Tiny", ["Tiny"]),
    ("name is \"Tiny\" or name == 'Big'", ["Big", "Tiny"]),
    ('name == "Tiny" || name == "Big"', ["Big", "Tiny"]),
    ('name BEGINSWITH "Subnet" AND address == "10.21.61.0"', ["Subnet 3"]),
    ('name BEGINSWITH "Subnet" && address == "10.21.61.0"', ["Subnet 3"]),
    ('name ENDSWITH "_MARKED_FOR_DELETION"', ["Old_MARKED_FOR_DELETION"]),
    ('name CONTAINS "MARKED"', ["Old_MARKED_FOR_DELETION"]),
    ('name LIKE "T?n*"', ["Tiny"]),
    ('name MATCHES "T.*y"', ["Tiny"]),
    ('name == "tiny"', []),
    ('NOT (name CONTAINS "ub") AND not name == "Old_MARKED_FOR_DELETION" and ! name == "Dual"', ["Big", "Tiny"]),
    ('name == "Tiny" or name == "Big" and address == "10.0.0.0"', ["Tiny"]),
    ('(name == "Tiny" or name == "Big") and address == "10.0.0.0"', []),
    ("IPv6Address != null and name ISNOT BackHaulSubnet", ["Dual"]),
    ("address IS null", ["BackHaulSubnet"]),
    ("enableDHCPv6 == true", []),
    ('IPType == "DUALSTACK"', ["Dual"]),
    ('name >= "Subnet 3" and name < "U"', ["Subnet 3", "Tiny"]),
])  # fmt: skip
def test_the_filter_grammar_selects_subnets(root, seed, text, names):
    status, headers, body = root.get(f"/domains/{seed.domain()['ID']}/subnets", filter=text)
    assert status == 200 and [one["name"] for one in body or []] == names
    assert (
        headers["X-Nuage-Count"] == str(len(names)) and headers["X-Nuage-FilterType"] == "predicate"
    )


@pytest.mark.parametrize(
    "text",
    ["name ==", '== "x"', 'name "x"', '(name == "x"', 'name == "x" garbage', 'name == "x', "((("],
)
def test_a_filter_that_cannot_be_parsed_is_a_400(root, text):
    status, _, body = root.get("/subnets", filter=text)
    assert status == 400 and "filter" in body["errors"][0]["descriptions"][0]["description"]


def test_a_filter_on_an_unknown_or_unfilterable_attribute_is_a_400_that_names_it(vsd, root):
    for path, name in (("/users", "name"), ("/subnets", "vnId"), ("/subnets", "Name")):
        status, _, body = root.get(path, filter=f'{name} == "x"')
        assert status == 400 and body["errors"][0]["property"] == name
    vsd.admin("POST", "/config", {"lenient_filter": True})
    assert root.get("/users", filter='name == "x"')[::2] == (200, None)


def test_a_plain_filter_looks_into_every_text(root):
    status, headers, body = root.get("/subnets", filter="10.40", X_Nuage_FilterType="plain")
    assert (status, headers["X-Nuage-FilterType"], [one["name"] for one in body]) == (
        200,
        "plain",
        ["Big"],
    )


def test_a_filter_on_one_object_is_echoed(root, seed):
    path = f"/subnets/{seed.subnet('Tiny')['ID']}"
    assert root.get(path, filter='name == "x"')[1]["X-Nuage-Filter"] == 'name == "x"'


def test_lists_are_ordered_as_asked(root, seed):
    path = f"/domains/{seed.domain()['ID']}/subnets"
    names = [one["name"] for one in root.get(path)[2]]
    assert names == sorted(names)
    _, headers, body = root.get(path, order="name DESC, creationDate ASC")
    assert [one["name"] for one in body] == names[::-1] and headers[
        "X-Nuage-OrderBy"
    ] == "name DESC, creationDate ASC"
    ids = [one["ID"] for one in root.get(path, order="ID ASC")[2]]
    assert ids == sorted(ids)
    assert root.get(path, order="nonsense ASC")[0] == 400


def test_pages_are_capped_and_an_unpaged_list_is_cut_while_the_count_is_whole(vsd, root, seed):
    path = f"/domains/{seed.domain()['ID']}/subnets"
    total = int(root.get(path)[1]["X-Nuage-Count"])
    vsd.admin("POST", "/config", {"page_max": 3})
    _, headers, body = root.get(path, page=0, page_size=1000)
    assert (
        len(body) == 3
        and headers["X-Nuage-PageSize"] == "3"
        and headers["X-Nuage-Count"] == str(total)
    )
    _, headers, body = root.get(path)
    assert len(body) == 3 < total == int(headers["X-Nuage-Count"])
    assert root.get(path, page=99, page_size=3)[::2] == (200, None)
    assert root.get(path, page="x")[0] == 400 and root.get(path, page=-1)[0] == 400


# --- the tree --------------------------------------------------------------------------------------------------------


def test_two_zones_may_have_subnets_of_one_name_and_each_zone_finds_its_own(root, seed):
    assert seed.subnet("Subnet 1", "Zone")["address"] == "10.21.58.0"
    assert seed.subnet("Subnet 1", "Zone 2")["address"] == "10.21.62.0"
    both = root.get(f"/domains/{seed.domain()['ID']}/subnets", filter='name == "Subnet 1"')[2]
    assert len(both) == 2


def test_overlapping_subnets_of_other_domains_and_enterprises_have_numbers_of_their_own(seed):
    same = [
        seed.subnet("Subnet 2"), seed.subnet("Subnet 2", domain="Domain B"), seed.subnet("Subnet 2", enterprise="Other Corp"),
    ]  # fmt: skip
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


@pytest.mark.parametrize("body, code, name", [
    ({"name": "Tiny", "address": "10.7.0.0", "netmask": "255.255.255.0"}, 2505, "name"),
    ({"name": "New", "netmask": "255.255.255.0"}, None, "address"),
    ({"name": "New", "address": "10.7.0.1", "netmask": "255.255.255.0"}, None, "address"),
    ({"name": "New", "address": "10.7.0.0", "netmask": "255.255.255.0", "gateway": "10.8.0.1"}, None, "gateway"),
    ({"name": "New", "address": "10.7.0.0", "netmask": "255.255.255.0", "gateway": "10.7.0.0"}, None, "gateway"),
    ({"name": "New", "address": "10.7.0.0", "netmask": "255.255.255.0", "gateway": "10.7.0.255"}, None, "gateway"),
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
    ({"name": "New", "address": "10.7.0.0", "netmask": "255.255.255.0", "multicast": "MAYBE"}, None, "multicast"),
    ({"name": "x" * 256, "address": "10.7.0.0", "netmask": "255.255.255.0"}, None, "name"),
    ({"name": 5, "address": "10.7.0.0", "netmask": "255.255.255.0"}, None, "name"),
])  # fmt: skip
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
    path = f"/vports/{created(root, container(seed.subnet('Subnet 2')))['interfaces'][0]['VPortID']}/policygroups"
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


# --- containers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, property_name", [
    ({"name": None}, "name"), ({"name": ""}, "name"), ({"name": "x" * 256}, "name"), ({"UUID": None}, "UUID"),
    ({"imageID": "x" * 256}, "imageID"), ({"computeProvisioned": "no"}, "computeProvisioned"),
])  # fmt: skip
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


@pytest.mark.parametrize("change, status, code", [
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
])  # fmt: skip
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


# --- allocation --------------------------------------------------------------------------------------------------------


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


# --- switches, bulk, events ----------------------------------------------------------------------------------------------


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


# --- faults ----------------------------------------------------------------------------------------------------------------


def order(vsd, action, **more):
    return vsd.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers$", "count": 1, "action": action, **more},
    )["id"]


@pytest.mark.parametrize(
    "action, status",
    [("401", 401), ("409", 409), ("500", 500), ("503", 503), ("503html", 503), ("300", 300)],
)
def test_an_ordered_status_is_answered_once_and_nothing_is_done(vsd, root, seed, action, status):
    body = container(seed.subnet("Subnet 2"))
    order(vsd, action, code=2704)
    answer = root.post("/containers", body)
    assert answer[0] == status
    if action == "409":
        refused(answer, 409, 2704)
    elif action == "503":
        assert isinstance(answer[2]["errors"], str)
    elif action == "503html":
        assert "<html>" in answer[2]
    assert root.get("/containers")[2] is None
    assert root.post("/containers", body)[0] == 201


def test_an_ordered_reset_does_nothing_and_one_after_the_work_leaves_it_done(vsd, root, seed):
    body = container(seed.subnet("Subnet 2"))
    order(vsd, "reset")
    with pytest.raises(requests.exceptions.ConnectionError):
        root.post("/containers", body)
    assert root.get("/containers")[2] is None
    order(vsd, "reset_after")
    with pytest.raises(requests.exceptions.ConnectionError):
        root.post("/containers", body)
    assert [one["UUID"] for one in root.get("/containers")[2]] == [body["UUID"]]


def test_an_ordered_reset_is_a_tcp_reset_on_the_wire(vsd):
    vsd.admin("POST", "/faults", {"path": "^/me$", "action": "reset"})
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=vsd.ca_file).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    port = int(vsd.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        while not _shook_hands(tls):
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(65536))
        tls.write(b"GET /nuage/api/v6/me HTTP/1.1\r\nHost: vsd\r\n\r\n")
        connection.sendall(outgoing.read())
        with pytest.raises(ConnectionResetError):
            while connection.recv(65536):
                pass
            pytest.fail("the connection was closed in order")


def _shook_hands(tls):
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def test_an_ordered_delay_and_hang_hold_the_reply_back(vsd, root, seed):
    order(vsd, "delay", seconds=0.3)
    started = time.monotonic()
    assert root.post("/containers", container(seed.subnet("Subnet 2")))[0] == 201
    assert time.monotonic() - started >= 0.3
    order(vsd, "hang", seconds=0.2)
    with pytest.raises(requests.exceptions.ConnectionError):
        root.post("/containers", container(seed.subnet("Subnet 2")))
    assert vsd.admin("GET", "/health")["containers"] == 1


def test_what_hangs_ends_without_an_answer_when_the_fault_is_taken_back(vsd, root, seed):
    order(vsd, "hang", seconds=50)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(root.post, "/containers", container(seed.subnet("Subnet 2")))
        assert eventually(lambda: vsd.admin("GET", "/faults")["faults"][0]["hits"] == 1)
        assert not hanging.done()
        vsd.admin("DELETE", "/faults")
        with pytest.raises(requests.exceptions.ConnectionError):
            hanging.result(30)
    assert vsd.admin("GET", "/health")["containers"] == 0


def test_an_ordered_malformed_or_empty_body_comes_after_the_work(vsd, root, seed):
    order(vsd, "malformed")
    with pytest.raises(ValueError):
        root.post("/containers", container(seed.subnet("Subnet 2")))
    order(vsd, "empty")
    assert root.post("/containers", container(seed.subnet("Subnet 2")))[::2] == (201, None)
    assert root.get("/containers")[1]["X-Nuage-Count"] == "2"


def test_faults_are_counted_limited_by_path_and_cleared(vsd, root):
    vsd.admin(
        "POST", "/faults", {"method": "*", "path": "^/enterprises$", "count": 0, "action": "500"}
    )
    vsd.admin(
        "POST",
        "/faults",
        {"method": "GET", "path": "/nuage/api/v6/zones", "count": 1, "action": "503"},
    )
    never = vsd.admin(
        "POST", "/faults", {"path": "", "count": 0, "action": "500", "probability": 0}
    )["id"]
    assert [root.get("/enterprises")[0] for _ in range(3)] == [500] * 3
    assert [root.get("/zones")[0] for _ in range(2)] == [503, 200]
    assert root.get("/subnets")[0] == 200
    hits = {one["id"]: one["hits"] for one in vsd.admin("GET", "/faults")["faults"]}
    assert sorted(hits.values()) == [0, 1, 3] and hits[never] == 0
    vsd.admin("DELETE", "/faults")
    assert root.get("/enterprises")[0] == 200
    for wrong in (
        {"action": "explode"},
        {"action": "500", "path": "("},
        {"action": "500", "colour": "red"},
    ):
        with pytest.raises(RuntimeError, match="400"):
            vsd.admin("POST", "/faults", wrong)


# --- the admin interface ---------------------------------------------------------------------------------------------------


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
        "found": True, "container_id": made["ID"], "interface_id": port["ID"], "vport_id": port["VPortID"],
        "name": made["name"], "ip": port["IPAddress"], "ip6": None, "netmask": "255.255.255.0", "gateway": "10.21.59.1",
        "gateway_mac": subnet["gatewayMACAddress"], "domain": "Domain", "zone": "Zone", "network": "Subnet 2",
        "subnet_id": subnet["ID"], "domain_id": port["domainID"], "enterprise": "Enterprise", "evpn_id": subnet["vnId"],
        "l2": False, "policy_groups": ["DB", "Web"],
    }  # fmt: skip
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
        "RUNNING", "RUNNING_BOOTED", "192.0.2.7", vrs_id,
    )  # fmt: skip
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
    with pytest.raises(RuntimeError, match="400"):
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
        with pytest.raises(RuntimeError, match="400"):
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
        with pytest.raises(RuntimeError, match="400"):
            vsd.admin("POST", "/config", {"latency_ms": 5, **wrong})
    assert vsd.admin("POST", "/config", {})["latency_ms"] == 0


@pytest.mark.parametrize(("name", "value", "bounds"), [
    ("page_max", 0, "1 to 1000000000"), ("pageSize", 0, "1 to 1000000000"), ("maxResponse", 0, "1 to 1000000000"),
    ("event_max", 0, "1 to 1000000000"), ("latency_ms", 1e308, "0 to 3600000"), ("latency_ms", float("nan"), "0 to 3600000"),
    ("event_timeout_s", float("inf"), "0 to 1000000000"),
])  # fmt: skip
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
        RuntimeError, match="400 .*since must be a whole number that is not negative, not"
    ):
        vsd.admin("GET", path)


# --- the process -------------------------------------------------------------------------------------------------------------


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
        "      - {name: D, zones: [{name: Z, subnets: [{name: S, address: 10.1.0.0, netmask: 255.255.255.0,\n"
        "          vports: [{name: p1, type: CONTAINER}], addressranges: [{minAddress: 10.1.0.9, maxAddress: 10.1.0.9}]}]}]}\n"
    )
    with VsdSimulator("--seed", str(seed_file), "--allocation", "random") as own:
        client = own.client(password="other")
        subnet = client.get("/subnets", filter='name == "S"')[2][0]
        assert [one["name"] for one in client.get(f"/subnets/{subnet['ID']}/vports")[2]] == ["p1"]
        assert created(client, container(subnet))["interfaces"][0]["IPAddress"] == "10.1.0.9"
        client.close()
