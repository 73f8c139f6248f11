"""TLS, log-in, keys, headers and bodies of the VSD simulator, and what it makes of bytes that are
no HTTP.
"""

import base64
import socket
import ssl
import time

import pytest
import requests

from tests.support.vsd import VsdSimulator
from tests.support.vsd_objects import container, created, eventually

# -- transport, log-in, headers -------------------------------------------------------------------


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
    """Return the whole answer to bytes on a TLS connection of its own, sent piece by piece; the
    client closes its side behind them.
    """
    context = ssl.create_default_context(cafile=vsd.ca_file)
    with (
        socket.create_connection(
            ("127.0.0.1", int(vsd.url.rpartition(":")[2])), timeout=60
        ) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as tls,
    ):
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
    return (
        "POST /nuage/api/v6/enterprises HTTP/1.1\r\nHost: vsd\r\n"
        "Authorization: XREST "
        f"{secret}\r\nX-Nuage-Organization: csp\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()


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
