"""The status document, as the App makes it before any backend has answered."""

import dataclasses
import re
from pathlib import Path

import pytest

from nuage_appliance.app import STATUS_SCHEMA, App
from nuage_appliance.config import parse

ROOT = Path(__file__).resolve().parents[2]
_LINES = {
    "url": "https://vsd:8443",
    "username": "Y3Nwcm9vdA==",
    "password": "Y3Nwcm9vdA==",
    "organization": "Y3Nw",
    "scope": "global",
    "consul": "http://192.0.2.1:8500",
    "clustername": "one",
}


@pytest.fixture
def app(tmp_path):
    """An appliance with Consul that was built and not started."""
    lines = {
        **_LINES,
        "statedir": tmp_path,
        "plugindir": tmp_path,
        "statussocket": tmp_path / "status.sock",
    }
    config = parse("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return App(config, str(tmp_path / "nuage-libnetwork.yaml"))


def test_the_document_names_its_schema_and_every_component(app):
    state = app.state()
    assert state["schema"] == STATUS_SCHEMA == 2
    assert set(state["components"]) == {"vsd", "vrs", "engine", "endpoints", "audit", "cluster"}
    assert all(isinstance(one["problem"], str) for one in state["components"].values())


def test_the_cluster_is_named_as_it_was_joined_until_a_restart(app):
    app._config = dataclasses.replace(app._config, clustername="two")
    assert app.state()["components"]["cluster"]["name"] == "one"


def test_every_field_that_operations_md_explains_is_in_the_document(app):
    state = app.state()
    text = (ROOT / "docs/OPERATIONS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[a-z_.]+`(?:, )?)+) \|", text, flags=re.MULTILINE)
    paths = [path for row in rows for path in re.findall(r"`([a-z_.]+)`", row)]
    explained = [path for path in paths if path.split(".")[0] in state]
    assert len(explained) >= 10
    for path in explained:
        found = state
        for word in path.split("."):
            assert word in found, path
            found = found[word]
