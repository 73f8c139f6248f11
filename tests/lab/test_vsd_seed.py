"""Seed files: what they may say, how a wrong one is refused, and that the live tree can be written
as one.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nuage_lab.vsd import export, seed
from nuage_lab.vsd.auth import SYSTEM
from nuage_lab.vsd.model import load_model
from nuage_lab.vsd.settings import Settings
from nuage_lab.vsd.simulator import Simulator
from nuage_lab.vsd.tree import picture
from tests.support.vsd import VsdSimulator, refuses_to_start

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "nuage_lab" / "vsd" / "example.yaml"
MODEL = load_model()
RANDOM_IDS = {"container", "containerinterface"}


def planted(tree):
    """An engine with a tree."""
    return Simulator(MODEL, Settings(), tree)


def timeless(engine):
    """Every object by its place, with its relations, without dates and without the IDs that are
    made for each container anew.
    """
    made = {
        one.id: f"the {one.resource.rest_name} of {one.ancestor('container').values['UUID']}"
        for kind in RANDOM_IDS
        for one in engine.store.all(kind)
    }
    for one in engine.store.all("containerinterface"):
        vport = engine.store.get("vport", one.values["VPortID"])
        if vport.values["autoCreated"]:
            made[vport.id] = f"the vport of {one.values['containerUUID']}"

    def without(value, name=""):
        if name in ("creationDate", "lastUpdatedDate", "lastRequestTimestamp"):
            return None
        if isinstance(value, dict):
            return {key: without(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [without(one) for one in value]
        return made.get(value, value)

    return {
        (kind, made.get(one.id, one.id)): (
            without(one.values),
            {made.get(scope, scope) for scope in one.scopes},
            one.secret and one.secret["password"],
        )
        for kind in MODEL.by_rest_name
        for one in engine.store.all(kind)
    }


@pytest.mark.parametrize("path", [None, EXAMPLE], ids=["packaged", "example"])
def test_a_seed_that_is_exported_and_planted_gives_the_same_tree(path):
    first = planted(seed.load(path))
    text = export.text(first)
    second = planted(yaml.safe_load(text))
    assert timeless(second) == timeless(first)
    assert export.text(second) == text
    assert " ID:" not in text, "the names say it"


def test_a_tree_that_clients_made_is_exported_with_its_ids_and_planted_gives_the_same_tree():
    first = planted(seed.load(EXAMPLE))
    kinds, store = MODEL.by_rest_name, first.store

    def make(kind, parent, **values):
        return first.create(kinds[kind], parent, values, SYSTEM)

    enterprise = make("enterprise", None, name="Made by hand", externalID="x")
    make(
        "user",
        enterprise,
        userName="u",
        password="p: '#",
        firstName="U",
        lastName="U",
        email="u@x.example",
    )
    template = make("domaintemplate", enterprise, name="Shared", description="of two")
    for name in ("One", "Two"):
        domain = make(
            "domain",
            enterprise,
            name=name,
            templateID=template.id,
            routeTarget="65000:7" if name == "One" else None,
        )
        zone = make("zone", domain, name="Zone")
        subnet = make(
            "subnet",
            zone,
            name="1234",
            address="10.0.0.0",
            netmask="255.255.255.0",
            vnId=4711 if name == "One" else None,
        )
        make("dhcpoption", subnet, actualType=6, actualValues=["10.0.0.53"])
        make("dhcpoption", subnet, type="0f", length="03", value="6c6162")
        make("metadata", zone, name="note", blob="{}", metadataTagIDs=["a", "b"])
        everybody = next(
            one for one in store.within("group", enterprise.id) if one.values["name"] == "Everybody"
        )
        make("permission", zone, associatedGroupID=everybody.id, permittedAction="USE")
        group = make("policygroup", domain, name="yes", type="SOFTWARE")
        vport = make("vport", subnet, name="port", type="CONTAINER", addressSpoofing="ENABLED")
        first.set_members(kinds["policygroup"], vport, [group.id], SYSTEM)
        make(
            "container",
            None,
            UUID=f"box-{name}",
            name="box",
            interfaces=[{"MAC": "10:20:30:40:50:10", "VPortID": vport.id, "endpointID": "e"}],
        )
    l2template = make(
        "l2domaintemplate",
        enterprise,
        name="L2 template",
        address="10.1.0.0",
        netmask="255.255.255.0",
    )
    make("addressrange", l2template, minAddress="10.1.0.8", maxAddress="10.1.0.9")
    make("l2domain", enterprise, name="L2", templateID=l2template.id)
    text = export.text(first)
    assert f"ID: {enterprise.id}" in text
    second = planted(yaml.safe_load(text))
    assert timeless(second) == timeless(first)
    assert export.text(second) == text
    assert store.count("container") == second.store.count("container") == 5
    assert len(picture(second.store)["enterprises"]) == 5


def test_the_example_holds_three_enterprises_and_the_running_simulator_exports_it(tmp_path):
    with VsdSimulator("--seed", str(EXAMPLE)) as simulator:
        client = simulator.client()
        assert [one["name"] for one in client.get("/enterprises")[2]] == [
            "Bakery",
            "CSP",
            "Clinic",
            "Depot",
        ]
        assert simulator.client("anna", "anna", "Bakery").me()["role"] == "CMS"
        boxes = {one["name"]: one for one in client.get("/containers")[2]}
        assert (boxes["till"]["userName"], boxes["till"]["interfaces"][0]["IPAddress"]) == (
            "anna",
            "10.10.0.10",
        )
        assert boxes["ledger"]["interfaces"][0]["VPortName"] == "ledger"
        text = _exported(simulator.admin_socket)
    copy = tmp_path / "tree.yaml"
    copy.write_text(text, encoding="utf-8")
    with VsdSimulator("--seed", str(copy)) as simulator:
        assert _exported(simulator.admin_socket) == text
        assert (
            simulator.client("anna", "anna", "Bakery").get("/containers")[1]["X-Nuage-Count"] == "2"
        )


def _exported(admin_socket):
    done = subprocess.run(
        [sys.executable, "-m", "nuage_lab.vsd", "--export", "--admin-socket", admin_socket],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_export_without_a_simulator_is_one_line(tmp_path):
    assert "No such file or directory" in refuses_to_start(
        "--export", "--admin-socket", str(tmp_path / "none.sock")
    )


SUBNETS = (
    "enterprises: [{name: E, domains: [{name: D, zones: [{name: Z, subnets: [{name: A, address: "
    "10.0.0.0, netmask: 255.255.255.0}, %s]}]}]}]"
)
WRONG = {
    "enterprises: [": "line 2, column 1: not YAML",
    "- {name: E}": "[{'name': 'E'}]: must be a mapping with enterprises: and containers:",
    "enterprise: []": "enterprise: unknown; is it 'enterprises'?",
    "enterprises: {name: E}": (
        "enterprises: {'name': 'E'}: must be a list, each entry behind a dash"
    ),
    "enterprises: [{}]": "enterprises[0]: name is missing",
    "enterprises: [{name: 1234}]": (
        "enterprises[0].name: 1234: This value must be of type string. Put it in quotes."
    ),
    "enterprises: [{name: 'a/b'}]": r"enterprises[0].name: 'a/b': This value must match",
    "enterprises: [{name: E}, {name: E}]": (
        "enterprises[1].name: 'E': Another enterprise with the same name = E exists."
    ),
    "enterprises: [{name: E}, {name: e}]": (
        "enterprises[1].name: 'e': Another enterprise with the same name = e exists."
    ),
    "enterprises: [{name: E, name: F}]": (
        "line 1, column 25: 'name' appears twice in one mapping; leave one of them out"
    ),
    ("enterprises:\n- name: E\n  domains: [D]\n  users: []\n  domains: [C]"): (
        "line 5, column 3: 'domains' appears twice in one mapping"
    ),
    "enterprises: []\nenterprises: []": "line 2, column 1: 'enterprises' appears twice",
    "enterprises: [{name: E, ID: 5}]": "enterprises[0].ID: 5: must be a text",
    "enterprises: [{name: E, ID: [x]}]": "enterprises[0].ID: ['x']: must be a text",
    "enterprises: [{name: E, domains: [{name: D, ID: {}}]}]": (
        "enterprises[0].domains[0].ID: {}: must be a text"
    ),
    "enterprises: &all [*all]": "enterprises[0]: [[[[['...']]]]]: must be a mapping",
    "enterprises: " + "[" * 3000: "not YAML: ",
    "enterprises: " + "[" * 3000 + "]" * 3000: "must be a mapping",
    "enterprises: \0": "not YAML: ",
    "enterprises: [{name: E, colour: red}]": "enterprises[0].colour: unknown; known are",
    "enterprises: [{name: E, domain: []}]": "enterprises[0].domain: unknown; is it 'domains'?",
    "enterprises: [{name: E, creationDate: 1}]": (
        "enterprises[0].creationDate: 1: the VSD itself sets this attribute; leave it out"
    ),
    "enterprises: [{name: E, users: [{userName: u}]}]": (
        "enterprises[0].users[0]: password is missing"
    ),
    "enterprises: [{name: E, users: [{userName: u, password: p, groups: [Admins]}]}]": (
        "enterprises[0].users[0].groups[0]: 'Admins': no group of "
        "enterprise 'E'; it has "
        "Administrators, CMS Group, Everybody"
    ),
    "enterprises: [{name: E, domains: [{name: D, template: T}]}]": (
        "enterprises[0].domains[0].template: 'T': no domaintemplate of enterprise 'E'; it has none"
    ),
    SUBNETS % "7": (
        "enterprises[0].domains[0].zones[0].subnets[1]: 7: must be "
        "a mapping with the attributes "
        "of subnet"
    ),
    SUBNETS % "{name: B, address: 10.0.1.0}": (
        "enterprises[0].domains[0].zones[0].subnets[1]: netmask is missing"
    ),
    SUBNETS % "{name: B, address: 10.0.1.7, netmask: 255.255.255.0}": (
        "subnets[1].address: '10.0.1.7': 10.0.1.7/255.255.255.0 is not a network address"
    ),
    SUBNETS % "{name: B, address: 10.0.0.0, netmask: 255.0.0.0}": (
        "subnets[1].address: '10.0.0.0': The network overlaps with subnet A."
    ),
    SUBNETS
    % (
        "{name: B, address: 10.0.1.0, netmask: 255.255.255.0, gateway: 10.0.2.1}"
    ): "subnets[1].gateway: '10.0.2.1': Network Gateway IP",
    SUBNETS
    % (
        "{name: B, address: 10.0.1.0, netmask: 255.255.255.0, vports: [{name: p, type: BOX}]}"
    ): "vports[0].type: 'BOX': BOX is not one of",
    (
        "containers: [{name: c, UUID: u, interfaces: [{MAC: '7a:42:00:00:00:01', network: [E, "
        "D]}]}]"
    ): "containers[0].interfaces[0].network: 'E': no such enterprise; there are none",
    "containers: [{name: c, UUID: u, interfaces: [{MAC: '7a:42:00:00:00:01'}]}]": (
        "containers[0].interfaces[0].network: None: write the "
        "names that lead to it, "
        "[enterprise, domain, zone, subnet] or [enterprise, L2 "
        "domain]"
    ),
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_seed_is_refused_with_its_place_what_is_there_and_what_would_be_right(
    tmp_path, text
):
    path = tmp_path / "tree.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(seed.SeedError) as caught:
        planted(seed.load(path))
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "enterprises: [{name: E, users: [{userName: u, password: [secret]}]}]",
            "enterprises[0].users[0].password: This value must be of type string",
        ),
        (
            "enterprises: [{name: E, users: {userName: u, password: secret}}]",
            "enterprises[0].users: {'userName': 'u', 'password': '***'}: must be a list",
        ),
        (
            "enterprises: {name: E, users: [{userName: u, password: secret}]}",
            "enterprises: {'name': 'E', 'users': [{'userName': 'u', 'password': '***'}]}",
        ),
        ("- {password: secret}", "[{'password': '***'}]: must be a mapping"),
        (
            ("enterprises: [{name: E, users: [{userName: u, password: secret, password: other}]}]"),
            "line 1, column 65: 'password' appears twice",
        ),
    ],
)
def test_a_wrong_seed_never_shows_a_password(tmp_path, text, place):
    path = tmp_path / "tree.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(seed.SeedError) as caught:
        planted(seed.load(path))
    assert place in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_mapping_may_be_merged_into_others_that_overrule_it(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text(
        "enterprises:\n- &first {name: E, description: d, ID: x}\n- &second {<<: *first, "
        "name: F, ID: y}\n- {<<: *second, name: G, ID: z}\n"
    )
    assert [one["name"] for one in seed.load(path)["enterprises"]] == ["E", "F", "G"]


def test_a_wrong_seed_ends_the_start_with_one_line(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text("enterprises: [{name: E, domain: []}]", encoding="utf-8")
    flags = ("--state-dir", str(tmp_path / "vsd"), "--seed")
    assert (
        refuses_to_start(*flags, str(path))
        == f"--seed {path}: enterprises[0].domain: unknown; is it 'domains'?"
    )
    assert (
        refuses_to_start(*flags, str(tmp_path / "none"))
        == f"--seed {tmp_path / 'none'}: No such file or directory"
    )


def test_what_the_vsd_made_by_itself_is_changed_where_the_seed_names_it():
    engine = planted(
        {
            "enterprises": [
                {"name": "E", "groups": [{"name": "Everybody", "description": "all of us"}]}
            ]
        }
    )
    found = [one.values for one in engine.store.all("group") if one.values["name"] == "Everybody"]
    assert [one["description"] for one in found] == ["all of us"]
