"""What the simulator serves beside its REST interface: the page's files, and the feed of requests
for csproot.
"""

import threading
import time

import pytest
import requests

from tests.support.vsd import VsdSimulator


@pytest.fixture(scope="module")
def vsd():
    with VsdSimulator() as running:
        yield running


@pytest.fixture()
def root(vsd):
    client = vsd.client()
    client.me()
    yield client
    client.close()


def fetch(vsd, path, client=None, method="GET"):
    """Ask for a path outside of the API root; with a client, as its user."""
    headers = {"X-Nuage-Organization": client.organization} if client else {}
    auth = (client.user, client.secret) if client else None
    return requests.request(
        method, vsd.url + path, headers=headers, auth=auth, verify=vsd.ca_file, timeout=60
    )


def test_the_root_is_the_page_under_a_strict_policy_and_every_file_it_names_is_served(vsd):
    page = fetch(vsd, "/")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    rules = dict(
        rule.strip().partition(" ")[::2]
        for rule in page.headers["Content-Security-Policy"].split(";")
    )
    assert (
        rules["default-src"] == "'none'"
        and rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    )
    assert (
        rules["require-trusted-types-for"] == "'script'"
        and rules["trusted-types"] == "'none'"
        and "unsafe" not in str(rules)
    )
    named = [word.split('"')[0] for word in page.text.split('="')[1:] if word.startswith("/")]
    assert {"/page/style.css", "/page/main.js", "/page/icon.svg"} == set(named)
    for path in named:
        assert fetch(vsd, path).status_code == 200, path
    # No address of anybody else's.
    assert "//" not in page.text.removeprefix("<!doctype html>").replace("http://www.w3.org", "")


def test_only_the_pages_own_files_are_served(vsd):
    for path in (
        "/page/",
        "/page/nothing.js",
        "/page/..%2fseed.yaml",
        "/page/../seed.yaml",
        "/page/__init__.py",
        "/lab/",
        "/lab/tree",
    ):
        assert fetch(vsd, path).status_code == 404, path
    assert fetch(vsd, "/", method="POST").status_code == 405
    assert fetch(vsd, "/", method="HEAD").status_code == 200


def test_paths_of_the_api_and_unknown_ones_answer_as_without_a_page(vsd, root):
    assert root.get("/enterprises")[0] == 200
    for path in ("/nuage", "/nuage/api/v6/page", "/index.html", "/favicon.ico"):
        answer = fetch(vsd, path, root)
        assert answer.status_code == 404 and "HTTP Status 404" in answer.text, path


def test_the_feed_is_for_csproot_only(vsd):
    assert fetch(vsd, "/lab/requests").status_code == 401
    wrong = vsd.client(password="wrong")
    assert fetch(vsd, "/lab/requests", wrong).status_code == 401
    for user, organization in (("admin", "Enterprise"), ("cmsuser", "csp")):
        for path in ("/lab/requests", "/lab/counters"):
            assert fetch(vsd, path, vsd.client(user, user, organization)).status_code == 403, user


def test_the_feed_has_each_request_with_its_latency_and_no_credentials(vsd, root):
    before = fetch(vsd, "/lab/requests", root).json()["seq"]
    root.get("/enterprises", filter='name == "Enterprise"')
    answer = fetch(vsd, f"/lab/requests?after={before}", root)
    [one] = answer.json()["requests"]
    assert (one["method"], one["path"], one["filter"], one["status"], one["user"]) == (
        "GET",
        "/enterprises",
        'name == "Enterprise"',
        200,
        "csproot",
    )
    assert 0 <= one["ms"] < 10000 and answer.json()["skipped"] == 0
    assert root.secret not in answer.text
    assert fetch(vsd, "/lab/counters", root).json()["counters"]["GET /enterprises"] >= 1


def test_the_feed_waits_for_the_next_request(vsd, root):
    seq = fetch(vsd, "/lab/requests", root).json()["seq"]
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(fetch(vsd, f"/lab/requests?after={seq}", root).json())
    )
    waiting.start()
    time.sleep(0.6)
    assert waiting.is_alive()
    root.get("/zones")
    waiting.join(30)
    assert [one["path"] for one in answers[0]["requests"]] == ["/zones"] and answers[0][
        "seq"
    ] == seq + 1


def test_the_feed_ends_its_wait_as_events_do(root, vsd):
    vsd.admin("POST", "/config", {"event_timeout_s": 0.5})
    try:
        seq = fetch(vsd, "/lab/requests", root).json()["seq"]
        assert fetch(vsd, f"/lab/requests?after={seq}", root).json() == {
            "seq": seq,
            "requests": [],
            "skipped": 0,
        }
    finally:
        vsd.admin("POST", "/config", {"event_timeout_s": 25})


def test_one_answer_of_the_feed_is_bounded_and_says_how_many_it_leaves_out(vsd, root):
    seq = fetch(vsd, "/lab/requests", root).json()["seq"]
    for _ in range(230):
        root.get("/me")
    answer = fetch(vsd, f"/lab/requests?after={seq}", root).json()
    assert len(answer["requests"]) == 200 and answer["skipped"] == 30 and answer["seq"] == seq + 230
    assert answer["requests"][-1]["seq"] == answer["seq"]


def test_a_number_of_an_earlier_life_starts_the_feed_anew_and_nonsense_is_refused(vsd, root):
    root.get("/me")
    answer = fetch(vsd, "/lab/requests?after=999999999", root).json()
    assert answer["requests"] and answer["seq"] < 999999999
    for text in ("-1", "x", "1.5", "%C2%B2"):
        assert fetch(vsd, f"/lab/requests?after={text}", root).status_code == 400, text
