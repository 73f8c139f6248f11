"""Users, organisations and rights (vsd §2): who gets in, what each sees and may do, and how a
refusal looks.
"""

import base64
import itertools
import subprocess

import pytest
import requests

from tests.support.vsd import VsdSimulator

_NUMBERS = itertools.count(1)
PEOPLE = {
    "root": ("csproot", "csproot", "csp"),
    "cms": ("cmsuser", "cmsuser", "csp"),
    "tenant": ("admin", "admin", "Enterprise"),
    "other": ("admin", "admin", "Other Corp"),
    "designer": ("designer", "designer", "Enterprise"),
    "viewer": ("viewer", "viewer", "Enterprise"),
}


@pytest.fixture(scope="module")
def simulator():
    with VsdSimulator(
        "--mtls-listen",
        "127.0.0.1:0",
        *itertools.chain(
            *(("--client-certificate", name) for name in ("admin", "viewer", "nobody", "csproot"))
        ),
    ) as running:
        yield running


@pytest.fixture()
def vsd(simulator):
    simulator.admin("POST", "/reset")
    yield simulator
    assert "Traceback" not in simulator.errors()


@pytest.fixture()
def people(vsd):
    """A logged in client for each of PEOPLE."""
    clients = {who: vsd.client(*words) for who, words in PEOPLE.items()}
    for client in clients.values():
        client.me()
    yield clients
    for client in clients.values():
        client.close()


def box(subnet_id):
    """A body for POST /containers."""
    number = next(_NUMBERS)
    return {
        "UUID": f"user-test-{number}",
        "name": f"box-{number}",
        "interfaces": [
            {
                "MAC": f"7a:44:00:00:{number >> 8:02x}:{number & 255:02x}",
                "attachedNetworkID": subnet_id,
            }
        ],
    }


def own(client, kind, name=None):
    """The first object of a kind that a user sees, by name if one is given."""
    return client.get(f"/{kind}", filter=f'name == "{name}"' if name else None)[2][0]


# --- who gets in


def test_each_user_belongs_to_one_organisation_and_one_name_may_be_two_people(people):
    seen = {who: client.get("/me")[2][0] for who, client in people.items()}
    assert {
        who: (one["userName"], one["enterpriseName"], one["role"]) for who, one in seen.items()
    } == {
        "root": ("csproot", "CSP", "CSPROOT"),
        "cms": ("cmsuser", "CSP", "CMS"),
        "tenant": ("admin", "Enterprise", "CMS"),
        "other": ("admin", "Other Corp", "CMS"),
        "designer": ("designer", "Enterprise", "ORGADMIN"),
        "viewer": ("viewer", "Enterprise", "ORGUSER"),
    }
    assert seen["root"]["enterpriseID"] == "76046673-d0ea-4a67-b6af-2829952f0812"
    assert (
        len({one["ID"] for one in seen.values()})
        == len({one["APIKey"] for one in seen.values()})
        == len(PEOPLE)
    )
    assert all(one["password"] is None for one in seen.values())


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "XREST",
        "XREST !!!",
        "XREST " + base64.b64encode(b"csproot").decode(),
        "Bearer " + base64.b64encode(b"csproot:csproot").decode(),
        "XREST " + base64.b64encode(b"csproot:").decode(),
        "XREST " + base64.b64encode(b"nobody:csproot").decode(),
        "XREST " + base64.b64encode(b"\xff\xfe:csproot").decode(),
        "XREST " + base64.b64encode(b"admin:admin").decode(),
    ],
)
@pytest.mark.parametrize("path", ["/me", "/enterprises", "/events"])
def test_who_is_not_known_gets_the_html_401_that_asks_for_credentials(vsd, header, path):
    headers = {
        "X-Nuage-Organization": "csp",
        **({"Authorization": header} if header is not None else {}),
    }
    reply = requests.get(
        f"{vsd.url}/nuage/api/v6{path}", headers=headers, verify=vsd.ca_file, timeout=60
    )
    assert (
        reply.status_code == 401
        and reply.headers["WWW-Authenticate"] == 'BASIC realm="application"'
    )
    assert reply.headers["Content-Type"].startswith("text/html") and "<html>" in reply.text


def test_a_disabled_user_a_deleted_one_and_an_old_password_are_401(vsd, people):
    root, tenant, viewer = people["root"], people["tenant"], people["viewer"]
    users = {one["userName"]: one["ID"] for one in tenant.get("/users")[2]}
    assert (
        root.put(f"/users/{users['viewer']}", {"disabled": True})[0] == 204
        and viewer.get("/me")[0] == 401
    )
    assert (
        root.put(f"/users/{users['viewer']}", {"disabled": False})[0] == 204
        and viewer.get("/me")[0] == 200
    )
    assert tenant.put(f"/users/{users['viewer']}", {"password": "another"})[0] == 204
    assert vsd.client(*PEOPLE["viewer"]).get("/me")[0] == 401
    assert vsd.client("viewer", "another", "Enterprise").get("/me")[0] == 200
    assert root.put(f"/users/{users['viewer']}", {"disablePasswordAuth": True})[0] == 204
    assert (
        vsd.client("viewer", "another", "Enterprise").get("/me")[0] == 401
        and viewer.get("/me")[0] == 200
    ), "the key still counts"
    assert (
        root.delete(f"/users/{users['viewer']}?responseChoice=1")[0] == 204
        and viewer.get("/me")[0] == 401
    )


def test_no_reply_carries_a_password(people):
    root = people["root"]
    made = root.post(
        "/users",
        {
            "userName": "new",
            "password": "s3cret-word",
            "firstName": "N",
            "lastName": "N",
            "email": "n@x.example",
        },
    )
    assert made[0] == 201
    replies = [
        made,
        root.get(f"/users/{made[2][0]['ID']}"),
        root.get("/users"),
        root.get("/users", filter='userName == "new"'),
    ]
    assert all(
        one["password"] is None for reply in replies for one in reply[2]
    ) and "s3cret-word" not in str(replies)
    assert (
        root.post(
            "/users",
            {
                "userName": "star",
                "password": "*",
                "firstName": "N",
                "lastName": "N",
                "email": "n@x.example",
            },
        )[0]
        == 409
    )


# --- what each sees


LISTS = (
    "enterprises",
    "domains",
    "zones",
    "subnets",
    "l2domains",
    "policygroups",
    "users",
    "containers",
    "containerinterfaces",
)


def test_an_organisations_user_sees_its_own_enterprise_in_every_list_and_count(people):
    for who in ("tenant", "other"):
        client = people[who]
        client.post("/containers", box(own(client, "subnets", "Subnet 2")["ID"]))
    ids = {}
    for who in ("root", "cms", "tenant", "other"):
        for kind in LISTS:
            status, headers, found = people[who].get(f"/{kind}")
            if status == 404:
                continue
            ids[who, kind] = {one["ID"] for one in found or []}
            assert headers["X-Nuage-Count"] == str(len(ids[who, kind])), "the count betrays nothing"
    kinds = {kind for _, kind in ids}
    assert {"enterprises", "domains", "subnets", "containers"} <= kinds
    for kind in kinds:
        assert ids["root", kind] == ids["cms", kind] >= ids["tenant", kind] | ids["other", kind]
        assert not ids["tenant", kind] & ids["other", kind], kind
    assert ids["tenant", "containers"] and ids["other", "containers"]


def test_what_belongs_to_another_enterprise_is_not_found_whatever_is_tried(people):
    tenant, other, root = people["tenant"], people["other"], people["root"]
    subnet = own(other, "subnets", "Subnet 2")
    made = other.post("/containers", box(subnet["ID"]))[2][0]
    vport, domain, enterprise = (
        made["interfaces"][0]["VPortID"],
        own(other, "domains"),
        own(other, "enterprises"),
    )
    group = root.post(
        f"/domains/{domain['ID']}/policygroups", {"name": "theirs", "type": "SOFTWARE"}
    )[2][0]
    mine = own(tenant, "policygroups", "Web")
    tries = [
        tenant.get(f"/enterprises/{enterprise['ID']}"),
        tenant.get(f"/enterprises/{enterprise['ID']}/domains"),
        tenant.get(f"/subnets/{subnet['ID']}"),
        tenant.get(f"/subnets/{subnet['ID']}/containers"),
        tenant.get(f"/containers/{made['ID']}"),
        tenant.put(f"/containers/{made['ID']}", {"name": "mine"}),
        tenant.delete(f"/containers/{made['ID']}?responseChoice=1"),
        tenant.put(f"/domains/{domain['ID']}", {"description": "mine"}),
        tenant.delete(f"/domains/{domain['ID']}?responseChoice=1"),
        tenant.post(f"/domains/{domain['ID']}/zones", {"name": "mine"}),
        tenant.put(f"/vports/{vport}/policygroups", [mine["ID"]]),
        tenant.patch(f"/vports/{vport}/policygroups", [mine["ID"]], "add"),
        tenant.put(f"/policygroups/{mine['ID']}/vports", [vport]),
        tenant.post("/containers", box(subnet["ID"])),
        tenant.post(f"/containers/{made['ID']}/containerresync"),
        tenant.delete(f"/policygroups/{group['ID']}?responseChoice=1"),
    ]
    assert [one[0] for one in tries] == [404] * len(tries)
    bulk = tenant.delete(f"/containers/?responseChoice=1&id={made['ID']}")[2]
    assert bulk["response"][0]["status"] == 404
    assert tenant.get("/containers", filter=f'UUID == "{made["UUID"]}"')[2] is None
    assert other.get(f"/containers/{made['ID']}")[2] == [made], "nothing has changed"


# --- what each may do


def test_roles_that_only_read_get_a_403_for_every_change(people):
    viewer, tenant = people["viewer"], people["tenant"]
    domain, group = own(viewer, "domains", "Domain"), own(viewer, "policygroups", "Web")
    made = tenant.post("/containers", box(own(tenant, "subnets", "Subnet 1")["ID"]))[2][0]
    vport = made["interfaces"][0]["VPortID"]
    tries = [
        viewer.post(f"/domains/{domain['ID']}/zones", {"name": "new"}),
        viewer.put(f"/domains/{domain['ID']}", {"description": "new"}),
        viewer.delete(f"/domains/{domain['ID']}?responseChoice=1"),
        viewer.put(f"/vports/{vport}/policygroups", [group["ID"]]),
        viewer.patch(f"/vports/{vport}/policygroups", [group["ID"]], "add"),
        viewer.delete(f"/containers/{made['ID']}?responseChoice=1"),
        viewer.put(f"/containers/{made['ID']}", {"name": "new"}),
        viewer.post(f"/subnets/{own(viewer, 'subnets', 'Subnet 1')['ID']}/containerresync", {}),
    ]
    for status, headers, body in tries:
        assert (
            status == 403
            and "json" in headers["Content-Type"]
            and body["errors"][0]["descriptions"][0]["title"] == "Permission denied"
        )
    assert viewer.get(f"/containers/{made['ID']}")[2] == [made], "it may read"


def test_only_the_provider_makes_enterprises_and_only_root_and_cms_make_containers(people):
    subnet = own(people["tenant"], "subnets", "Subnet 1")["ID"]
    status = {
        who: client.post("/enterprises", {"name": f"by {who}"})[0] for who, client in people.items()
    }
    assert status == {
        "root": 201,
        "cms": 201,
        "tenant": 403,
        "other": 403,
        "designer": 403,
        "viewer": 403,
    }
    status = {
        who: people[who].post("/containers", box(subnet))[0]
        for who in ("root", "cms", "tenant", "designer", "viewer")
    }
    assert status == {"root": 201, "cms": 201, "tenant": 201, "designer": 401, "viewer": 401}, (
        "vsd §2.4: that one is a 401"
    )


def test_a_user_gets_the_rights_of_a_group_when_it_joins_and_loses_them_when_it_leaves(people):
    root, designer = people["root"], people["designer"]
    enterprise, subnet = (
        own(designer, "enterprises")["ID"],
        own(designer, "subnets", "Subnet 1")["ID"],
    )
    group = root.get(f"/enterprises/{enterprise}/groups", filter='name == "CMS Group"')[2][0]["ID"]
    user = designer.get("/me")[2][0]["ID"]
    assert root.patch(f"/groups/{group}/users", [user], "add")[0] == 204
    assert designer.post("/containers", box(subnet))[0] == 201
    assert root.patch(f"/groups/{group}/users", [user], "remove")[0] == 204
    assert designer.post("/containers", box(subnet))[0] == 401


def test_an_organisation_makes_up_no_roles_and_its_users_no_memberships(people):
    tenant, designer, root = people["tenant"], people["designer"], people["root"]
    enterprise, me = own(tenant, "enterprises")["ID"], tenant.get("/me")[2][0]["ID"]
    for role in ("CSPROOT", "CMS", "SYSTEM"):
        assert (
            tenant.post(f"/enterprises/{enterprise}/groups", {"name": "evil", "role": role})[0]
            == 403
        )
    status, _, made = tenant.post(
        f"/enterprises/{enterprise}/groups", {"name": "good", "role": "ORGUSER"}
    )
    assert status == 201 and tenant.put(f"/groups/{made[0]['ID']}", {"role": "CSPROOT"})[0] == 403
    assert root.put(f"/groups/{made[0]['ID']}", {"role": "ORGNETWORKDESIGNER"})[0] == 204
    root.patch(f"/groups/{made[0]['ID']}/users", [designer.get("/me")[2][0]["ID"]], "add")
    administrators = root.get(
        f"/enterprises/{enterprise}/groups", filter='name == "Administrators"'
    )[2][0]["ID"]
    root.put(f"/groups/{administrators}/users", [me])
    group = root.get(f"/enterprises/{enterprise}/groups", filter='name == "CMS Group"')[2][0]["ID"]
    for how in ("add", "remove"):
        assert designer.patch(f"/groups/{group}/users", [me], how)[0] == 403, (
            "a designer that is no administrator"
        )
    assert designer.put(f"/groups/{group}/users", [])[0] == 403
    assert tenant.patch(f"/groups/{group}/users", [me], "add")[0] == 204, (
        "an administrator decides about its own organisation"
    )


def test_two_enterprises_never_differ_by_case_alone_because_log_ins_know_none(people):
    root, tenant = people["root"], people["tenant"]
    enterprise = own(tenant, "enterprises")["ID"]
    for name in ("csp", "CSP", "other corp"):
        status, _, body = tenant.put(f"/enterprises/{enterprise}", {"name": name})
        assert status == 409 and body["internalErrorCode"] == 2510
        assert root.post("/enterprises", {"name": name})[0] == 409
    assert tenant.put(f"/enterprises/{enterprise}", {"name": "ENTERPRISE"})[0] == 204, (
        "its own name in another case is free"
    )
    assert tenant.get("/me")[0] == 200


@pytest.mark.parametrize("who", ["root", "cms", "tenant"])
@pytest.mark.parametrize(
    "proxy", ["designer@Enterprise", "Enterprise@designer", "designer@enterprise"]
)
def test_a_cms_user_acts_for_a_tenants_user_who_then_owns_the_container(people, who, proxy):
    subnet = own(people["tenant"], "subnets", "Subnet 1")["ID"]
    made = people[who].post("/containers", box(subnet), X_Nuage_ProxyUser=proxy)[2][0]
    owner = people["designer"].get("/me")[2][0]
    assert (made["userName"], made["userID"], made["enterpriseName"]) == (
        "designer",
        owner["ID"],
        "Enterprise",
    )
    assert [one["ID"] for one in people["designer"].get(f"/users/{owner['ID']}/containers")[2]] == [
        made["ID"]
    ]
    plain = people[who].post("/containers", box(subnet))[2][0]
    assert plain["userName"] == PEOPLE[who][0], "without the header it is the caller's"


@pytest.mark.parametrize(
    "who, proxy",
    [
        ("root", "nobody@Enterprise"),
        ("root", "designer@Nowhere"),
        ("root", "designer"),
        ("root", "@"),
        ("cms", "designer@Other Corp"),
        ("designer", "viewer@Enterprise"),
        ("viewer", "viewer@Enterprise"),
        ("tenant", "admin@Other Corp"),
        ("tenant", "nobody@Other Corp"),
    ],
)
def test_acting_for_an_unknown_user_or_without_the_cms_role_is_a_403(people, who, proxy):
    subnet = own(people["tenant"], "subnets", "Subnet 1")["ID"]
    status, _, body = people[who].post("/containers", box(subnet), X_Nuage_ProxyUser=proxy)
    assert status == 403 and body["errors"][0]["descriptions"][0]["title"] == "Permission denied"
    assert people["root"].get("/containers")[2] is None


# --- certificates


def by_certificate(vsd, name, path="/me", **headers):
    """GET on the port with mutual TLS."""
    pair = (str(vsd.state_dir / f"{name}.pem"), str(vsd.state_dir / f"{name}.key"))
    return requests.get(
        f"{vsd.mtls_url}/nuage/api/v6{path}",
        cert=pair,
        verify=vsd.ca_file,
        timeout=60,
        headers=headers,
    )


def test_on_the_second_port_the_certificate_says_who_it_is_and_the_authorization_is_not_read(vsd):
    wrong = {"Authorization": "XREST " + base64.b64encode(b"csproot:csproot").decode()}
    assert by_certificate(vsd, "viewer", **wrong).json()[0]["userName"] == "viewer"
    empty = {
        "Authorization": "XREST " + base64.b64encode(b"csproot:").decode(),
        "X-Nuage-Organization": "csp",
    }
    assert by_certificate(vsd, "csproot", **empty).json()[0]["role"] == "CSPROOT"
    assert (
        by_certificate(vsd, "admin", **{"X-Nuage-Organization": "Other Corp"}).json()[0][
            "enterpriseName"
        ]
        == "Other Corp"
    )
    names = [one["name"] for one in by_certificate(vsd, "viewer", "/enterprises").json()]
    assert names == ["Enterprise"], "its rights are its user's"


def test_a_certificate_of_nobody_or_of_a_user_who_may_not_use_one_is_a_401(vsd, people):
    assert by_certificate(vsd, "nobody").status_code == 401
    assert (
        by_certificate(vsd, "viewer", **{"X-Nuage-Organization": "Other Corp"}).status_code == 401
    )
    user = people["viewer"].get("/me")[2][0]["ID"]
    assert people["root"].put(f"/users/{user}", {"disableCertificateAuth": True})[0] == 204
    assert (
        by_certificate(vsd, "viewer").status_code == 401 and people["viewer"].get("/me")[0] == 200
    )


def test_a_certificate_of_another_ca_or_none_gets_no_connection(vsd, tmp_path):
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=csproot",
            "-keyout",
            tmp_path / "x.key",
            "-out",
            tmp_path / "x.pem",
        ],
        check=True,
        capture_output=True,
    )
    for pair in ((str(tmp_path / "x.pem"), str(tmp_path / "x.key")), None):
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(
                f"{vsd.mtls_url}/nuage/api/v6/me", cert=pair, verify=vsd.ca_file, timeout=60
            )
