"""Faults by rule, on the command line and over the admin socket; the memory of requests, which
holds no credentials.
"""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from nuage_lab.vsd.http_faults import ACTIONS, HttpFaults, parse
from tests.support.vsd import VsdSimulator, refuses_to_start

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def simulator():
    with VsdSimulator() as running:
        yield running


@pytest.fixture()
def vsd(simulator):
    simulator.admin("POST", "/reset")
    yield simulator
    simulator.admin("POST", "/config", {"key_validity_s": 86400})
    assert "Traceback" not in simulator.errors()


@pytest.fixture()
def root(vsd):
    client = vsd.client()
    client.me()
    yield client
    client.close()


def new_box(client):
    """POST a container; returns what the client sees of it: a status, or what stands in
    its place.
    """
    subnet = client.get("/subnets", filter='name == "Subnet 1"')[2][0]["ID"]
    body = {
        "UUID": "fault-test",
        "name": "box",
        "interfaces": [{"MAC": "7a:45:00:00:00:01", "attachedNetworkID": subnet}],
    }
    try:
        status, headers, answer = client.post("/containers", body)
    except requests.exceptions.ConnectionError:
        return "cut"
    except ValueError:
        return "no JSON"
    if answer is None:
        return f"{status} and nothing"
    code = answer.get("internalErrorCode", "") if isinstance(answer, dict) else ""
    return f"{status} {'JSON' if 'json' in headers['Content-Type'] else 'HTML'} {code}".strip()


@pytest.mark.parametrize(
    "rule, seen, is_done",
    [
        ("POST ^/containers$ 401", "401 HTML", False),
        ("POST ^/containers$ 409 code=2704", "409 JSON 2704", False),
        ("POST ^/containers$ 500", "500 JSON", False),
        ("POST ^/containers$ 503", "503 JSON", False),
        ("POST ^/containers$ 503html", "503 HTML", False),
        ("POST ^/containers$ 300", "300 JSON", False),
        ("POST ^/containers$ reset", "cut", False),
        ("POST ^/containers$ hang seconds=0.2", "cut", False),
        ("POST ^/containers$ reset_after", "cut", True),
        ("POST ^/containers$ malformed", "no JSON", True),
        ("POST ^/containers$ empty", "201 and nothing", True),
        ("post ^/containers$ delay seconds=0.2", "201 JSON", True),
    ],
)
def test_a_rule_in_one_line_does_what_it_says_once(vsd, root, rule, seen, is_done):
    vsd.admin("POST", "/faults", {"rule": rule})
    started = time.monotonic()
    assert new_box(root) == seen
    assert time.monotonic() - started >= (0.2 if "seconds" in rule else 0)
    assert (root.get("/containers")[2] is not None) == is_done
    assert vsd.admin("GET", "/faults")["faults"][0]["hits"] == 1
    if not is_done:
        assert new_box(root) == "201 JSON", "the next one is spared"


def test_rules_on_the_command_line_are_in_force_from_the_first_request():
    with VsdSimulator(
        "--fault", "GET ^/me$ 503 count=2", "--fault", "* ^/enterprises 500 count=0"
    ) as own:
        client = own.client()
        assert [client.get("/me")[0] for _ in range(3)] == [503, 503, 200]
        assert [client.get("/enterprises")[0] for _ in range(3)] == [500] * 3
        assert [one["hits"] for one in own.admin("GET", "/faults")["faults"]] == [2, 3]
        own.admin("DELETE", "/faults")
        assert client.get("/enterprises")[0] == 200


def test_a_rule_with_a_probability_hurts_about_so_many_and_leaves_the_rest_to_the_next_rule():
    class Dice:
        def __init__(self):
            self.throws = iter((0.1, 0.9, 0.49, 0.5) * 25)

        def random(self):
            return next(self.throws)

    faults = HttpFaults(Dice())
    faults.add({"rule": "GET ^/me 503 count=0 probability=0.5"})
    faults.add({"rule": "GET . 500 count=7"})
    picked = [faults.pick("GET", ("/me",)) for _ in range(100)]
    assert [one and one.action for one in picked[:6]] == ["503", "500", "503", "500", "503", "500"]
    assert [one.hits for one in dict.fromkeys(filter(None, picked))] == [50, 7] and picked.count(
        None
    ) == 43


WRONG = {
    "": "is not a rule; write METHOD PATH ACTION",
    "POST ^/containers": "is not a rule; write METHOD PATH ACTION",
    "FETCH . 503": "method must be one of *, GET, POST, PUT, PATCH, DELETE, not 'FETCH'",
    "GET . 504": "action must be one of delay, 401, 409",
    "GET ( 503": "path '(' is not a regular expression",
    "GET . 503 twice": "'twice' is none of count=…, probability=…",
    "GET . 503 colour=red": "'colour=red' is none of count=…",
    "GET . 503 count=many": "count must be a whole number that is not negative, not 'many'",
    "GET . 503 count=-1": "count must be a whole number that is not negative, not '-1'",
    "GET . 503 probability=2": "probability must be a number from 0 to 1, not '2'",
    "GET . 503 probability=nan": "probability must be a number from 0 to 1, not 'nan'",
    "GET . delay seconds=inf": "seconds must be a number that is not negative, not 'inf'",
    "GET . delay seconds=1e9": "seconds must be at most 86400, a day, not 1e+09",
    "GET . 503 seconds=2": "seconds go with the actions delay and hang, not with 503",
}


@pytest.mark.parametrize("rule", WRONG)
def test_a_rule_that_makes_no_sense_is_refused_with_what_would_be_right(vsd, rule):
    with pytest.raises(RuntimeError, match="400") as caught:
        vsd.admin("POST", "/faults", {"rule": rule})
    assert WRONG[rule] in json.loads(str(caught.value).partition(" 400 ")[2])["error"]
    assert vsd.admin("GET", "/faults")["faults"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"rule": None},
        {"action": "503", "count": True},
        {"action": "503", "count": 1.5, "colour": 1},
        {"action": "503", "rule": "GET . 503"},
        {"path": "."},
        {"action": "503", "method": ["GET"]},
        {"action": "409", "code": "x"},
    ],
)
def test_a_rule_in_json_that_makes_no_sense_is_refused_too(vsd, body):
    with pytest.raises(RuntimeError, match="400"):
        vsd.admin("POST", "/faults", body)
    assert vsd.admin("GET", "/faults")["faults"] == []


def test_every_action_has_its_word_in_the_help_and_a_line_that_is_read():
    for action in ACTIONS:
        assert HttpFaults().add(parse(f"* . {action} count=0 probability=0.25")) == 1


def test_wrong_options_get_one_clear_line(tmp_path):
    state_dir = ("--state-dir", str(tmp_path))
    rule = "--fault 'GET . 504': action must be one of"
    assert refuses_to_start("--fault", "GET . 504").startswith(rule)
    assert (
        refuses_to_start("--listen", "8443")
        == "--listen 8443: must be ADDR:PORT, as 127.0.0.1:8443"
    )
    assert (
        refuses_to_start("--listen", "203.0.113.9:0", *state_dir)
        == "--listen 203.0.113.9:0: Cannot assign requested address"
    )
    assert refuses_to_start("--lis", "127.0.0.1:0") == "unrecognized arguments: --lis 127.0.0.1:0"
    assert "--key-validity: must be a number that is not negative, not 'x'" in refuses_to_start(
        "--key-validity", "x"
    )
    assert "--latency-ms: must be a number that is not negative, not '-1'" in refuses_to_start(
        "--latency-ms", "-1"
    )
    assert (
        refuses_to_start("--san", "bad name,=x")
        == "--san 'bad name,=x': neither a name nor an address, as vsd.example or 192.0.2.1"
    )
    assert refuses_to_start("--certificate", "x") == "--certificate and --key go together"
    assert "--certificate" in refuses_to_start(
        "--certificate", "/none", "--key", "/none", *state_dir
    )
    assert "No such file" in refuses_to_start(
        "--request-log", str(tmp_path / "none" / "log"), *state_dir
    )
    assert "--state FILE" in refuses_to_start("--state-sync")


def test_the_request_log_the_ring_and_standard_error_never_hold_a_credential(tmp_path):
    log = tmp_path / "requests.jsonl"
    with VsdSimulator(
        "--request-log",
        str(log),
        "--mtls-listen",
        "127.0.0.1:0",
        "--client-certificate",
        "admin",
        "--fault",
        "GET ^/zones 500 count=1",
    ) as own:
        secrets = {"right-word", "new-word", "wrong-word", "proxy-word"}
        client = own.client()
        secrets.add(client.me()["APIKey"])
        user = client.post(
            "/users",
            {
                "userName": "u",
                "password": "right-word",
                "firstName": "U",
                "lastName": "U",
                "email": "u@x.example",
            },
        )[2][0]
        client.put(f"/users/{user['ID']}", {"password": "new-word"})
        client.put("/users/?responseChoice=1", [{"ID": user["ID"], "password": "proxy-word"}])
        other = own.client("u", "proxy-word", "csp")
        secrets.add(other.me()["APIKey"])
        own.client("u", "wrong-word", "csp").get("/me")
        own.admin("POST", "/expire-keys")
        client.get("/enterprises")
        for one in (client, other):
            one.get("/zones", X_Nuage_ProxyUser="admin@Enterprise")
            one.get("/users", filter='password == "new-word"')
            one.get("/users?password=new-word&APIKey=right-word")
            one.call("GET", "/me/passwords/right-word", None, {})
            one.call("OPTIONS", "/me", None, {"X-Nuage-ClientType": "my password is right-word"})
            secrets.add(base64.b64encode(f"{one.user}:{one.secret}".encode()).decode())
        pair = (str(own.state_dir / "admin.pem"), str(own.state_dir / "admin.key"))
        requests.get(
            f"{own.mtls_url}/nuage/api/v6/me",
            cert=pair,
            verify=own.ca_file,
            timeout=60,
            headers={"Authorization": "XREST right-word"},
        )
        ring, counters, errors = (
            own.admin("GET", "/requests"),
            own.admin("GET", "/counters"),
            own.errors(),
        )
    lines = log.read_text().splitlines()
    assert [json.loads(line) for line in lines] == ring["requests"] and len(lines) >= 18
    for place, text in (
        ("log", log.read_text()),
        ("ring", str(ring)),
        ("counters", str(counters)),
        ("standard error", errors),
    ):
        assert not {word for word in secrets if word in text}, place
        assert "XREST" not in text, place
    assert (
        counters["GET /me"] == 4 and counters["POST /users"] == 1 and counters["PUT /users/*"] == 1
    )
    assert sum(counters.values()) == len(lines), "each call is counted once"
    assert {
        "time",
        "method",
        "path",
        "status",
        "ms",
        "user",
        "version",
        "query",
        "filter",
        "seq",
        "client",
    } == set(json.loads(lines[0]))


def test_a_python_without_the_packages_is_told_where_they_come_from():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "nuage_lab.vsd"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = (
        "python -m nuage_lab.vsd: gevent is missing; run scripts/setup, then .venv/bin/python -m "
        "nuage_lab.vsd\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
