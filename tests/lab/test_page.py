"""The simulator's page in a real Chromium that reaches nothing but the simulator: what it shows,
and what can be done with it.
"""

import json
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import requests

from nuage_lab.hosts.run import kill_session
from nuage_lab.lab import VSD_URL
from tests.support import page
from tests.support.browser import Browser, need
from tests.support.docker_cli import create, run
from tests.support.invariants import clean, engine_endpoints, wait_agreement
from tests.support.vsd import VsdSimulator
from tests.support.wire import Wire

REPOSITORY = Path(__file__).resolve().parents[2]
WAY = ("Enterprise", "Domain", "Zone", "Subnet 2")
CAPTION = "10.21.59.0/24"


@pytest.fixture(scope="session")
def chromium(own_network):
    """Skip the test where there is no Chromium, before anything is started for it."""
    return need()


@pytest.fixture(scope="module")
def vsd(chromium):
    with VsdSimulator() as running:
        yield running


@pytest.fixture(scope="module")
def other(vsd):
    """A second simulator, as one that was restarted without its objects and keys."""
    with VsdSimulator() as running:
        yield running


@pytest.fixture(scope="module")
def browser(vsd, other):
    with Browser([vsd.state_dir / "server.pem", other.state_dir / "server.pem"]) as running:
        yield running


@pytest.fixture()
def world(vsd):
    """The simulator in its first state, with a maker of containers."""
    vsd.admin("POST", "/reset")
    made = World(vsd)
    yield made
    made.root.close()


@pytest.fixture()
def tab(browser, vsd, world):
    """The page, logged in as csproot; nothing was ever asked of anybody but the simulator, and no
    script failed.
    """
    with browser.tab(vsd.url + "/") as opened:
        page.log_in(opened)
        yield opened
        check(opened, vsd.url, world.root.secret)


def check(tab, url, *secrets):
    """What holds for every page at its end."""
    asked = tab.asked()
    assert asked and all(one.startswith(f"{url}/") for one in asked), asked
    assert not [one for one in asked for secret in secrets if secret in one]
    assert tab.problems() == []
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")


class World:
    """Objects of one enterprise of a simulator that a test makes by its REST interface."""

    def __init__(self, vsd, name="Enterprise"):
        self.vsd = vsd
        self.root = vsd.client()
        self.root.me()
        [enterprise] = self._list("/enterprises", f'name == "{name}"')
        [self.domain] = self._list(f"/enterprises/{enterprise['ID']}/domains", 'name == "Domain"')
        [self.zone] = self._list(f"/domains/{self.domain['ID']}/zones", 'name == "Zone"')
        self.subnets = {
            one["name"]: one["ID"] for one in self._list(f"/zones/{self.zone['ID']}/subnets")
        }
        self.l2domains = {
            one["name"]: one["ID"]
            for one in self._list(f"/enterprises/{enterprise['ID']}/l2domains")
        }

    def _list(self, path, wanted=None):
        return self.root.get(path, filter=wanted)[2] or []

    def post(self, path, body):
        """Create an object and return it."""
        status, _, answer = self.root.post(path, body)
        assert status == 201, answer
        return answer[0]

    def container(self, name, subnet="Subnet 2", network_id=None, runs=False):
        """Create a container with one interface, and tell that it runs."""
        number = uuid.uuid4()
        mac = "7a:42:" + ":".join(f"{byte:02x}" for byte in number.bytes[:4])
        made = self.post(
            "/containers",
            {
                "UUID": number.hex * 2,
                "name": name,
                "interfaces": [
                    {
                        "name": "nln0",
                        "MAC": mac,
                        "attachedNetworkID": network_id or self.subnets[subnet],
                    }
                ],
            },
        )
        if runs:
            self.vsd.admin(
                "POST",
                "/vsc/report",
                {
                    "uuid": made["UUID"],
                    "mac": mac,
                    "state": "running",
                    "hypervisor_ip": "198.18.0.11",
                    "vrs_id": "vrs-1",
                },
            )
        return made

    def delete(self, container):
        """Delete a container."""
        assert self.root.delete(f"/containers/{container['ID']}?responseChoice=1")[0] == 204


def names(tab):
    return [row["Container"] for row in page.rows(tab)]


def has_row(name):
    return (
        "[...document.querySelectorAll('td.container')].some((one) => one.textContent === "
        f"{json.dumps(name)})"
    )


def bar(*way):
    """The expression of what a screen reader hears of a network's bar."""
    return f"{page.place(*way)}.querySelector('.bar').getAttribute('aria-label')"


# -- the tree


def test_a_wrong_password_is_told_and_a_right_one_is_kept_out_of_every_url(browser, vsd, world):
    with browser.tab(vsd.url + "/") as tab:
        tab.wait("document.activeElement.name === 'user'")
        for text in ("csproot", "a wrong one", "csp"):
            tab.write(text)
            tab.press("Tab")
        tab.press("Enter")
        tab.wait("document.getElementById('refusal').textContent.includes('Wrong user')")
        assert tab.js("sessionStorage.length + localStorage.length") == 0
        tab.go(vsd.url + "/")
        page.log_in(tab)
        assert (
            page.state(tab) == "Live"
            and tab.js("localStorage.length + document.cookie.length") == 0
        )
        assert "csproot" not in tab.js("JSON.parse(sessionStorage.getItem('vsd-session')).key")
        tab.go(vsd.url + "/")
        tab.wait("document.querySelectorAll('.twig').length === 3", what="a reload needs no log-in")
        tab.js("document.getElementById('logout').click()")
        assert (
            tab.js("sessionStorage.length") == 0
            and tab.js("document.querySelectorAll('.twig').length") == 0
        )
        check(tab, vsd.url, world.root.secret, "wrong")


def test_the_tree_shows_what_the_vsd_has_at_every_level(tab, world):
    made = world.container("web", runs=True)
    port = made["interfaces"][0]
    [group] = [
        one
        for one in world.root.get(f"/domains/{world.domain['ID']}/policygroups")[2]
        if one["name"] == "DB"
    ]
    assert (
        world.root.put(f"/vports/{port['VPortID']}/policygroups?responseChoice=1", [group["ID"]])[0]
        == 204
    )
    world.container("flat", network_id=world.l2domains["L2"])
    assert page.branches(tab) == ["CSP", "Enterprise", "Other Corp"]
    page.open_way(tab, *WAY)
    tab.wait("document.querySelector('td.policy-groups')?.textContent === 'DB'")
    assert page.rows(tab) == [
        {
            "Address": "10.21.59.2",
            "MAC": port["MAC"],
            "Container": "web",
            "Policy groups": "DB",
            "Status": "RUNNING",
            "vPort": "UP",
            "Host": "198.18.0.11",
        }
    ]
    assert page.branches(tab) == [
        "CSP",
        "Enterprise",
        "Domain",
        "Zone",
        "Big",
        "Dual",
        "Old_MARKED_FOR_DELETION",
        "Subnet 1",
        "Subnet 2",
        "Tiny",
        "Zone 2",
        "Domain B",
        "L2",
        "L2 raw",
        "Other Corp",
    ]
    page.open_way(tab, "Enterprise", "L2")
    tab.wait(has_row("flat"))
    assert [row["Address"] for row in page.rows(tab) if row["Container"] == "flat"] == ["10.30.0.2"]


def test_the_bar_counts_used_reserved_and_free_addresses_and_follows_them(tab, world):
    page.open_way(tab, *WAY[:3])
    label = bar("Tiny")
    tab.wait(f"{label} === '0 used, 1 reserved, 5 free of 6 addresses'")
    empty = page.usage(tab, "Tiny")[1]
    made = world.container("one", "Tiny")
    tab.wait(f"{label} === '1 used, 1 reserved, 4 free of 6 addresses'")
    assert page.usage(tab, "Tiny")[1] > empty
    world.post(
        f"/subnets/{world.subnets['Tiny']}/ipreservations",
        {"MAC": "7a:42:00:00:00:09", "IPAddress": "10.21.60.6"},
    )
    tab.wait(f"{label} === '1 used, 2 reserved, 3 free of 6 addresses'")
    world.delete(made)
    tab.wait(f"{label} === '0 used, 2 reserved, 4 free of 6 addresses'")
    assert page.usage(tab, "Tiny")[1] == empty


def test_the_page_follows_events_without_being_touched(tab, world):
    page.open_way(tab, *WAY)
    tab.wait(
        "[...document.querySelectorAll('.vports .note')].some((one) => "
        "one.textContent.includes('No vPorts'))"
    )
    made = world.container("web")
    tab.wait(has_row("web"))
    assert page.rows(tab)[0]["Status"] == "INIT"
    world.vsd.admin(
        "POST",
        "/vsc/report",
        {
            "uuid": made["UUID"],
            "mac": made["interfaces"][0]["MAC"],
            "state": "running",
            "hypervisor_ip": "198.18.0.12",
            "vrs_id": "vrs-1",
        },
    )
    tab.wait(
        "document.querySelector('td.status').textContent === 'RUNNING' && "
        "document.querySelector('td.vport').textContent === 'UP'"
    )
    assert world.root.put(f"/containers/{made['ID']}", {"name": "renamed"})[0] == 204
    tab.wait(has_row("renamed"))
    zone = world.post(f"/domains/{world.domain['ID']}/zones", {"name": "Zone 10"})
    tab.wait(f"{page.place('Zone 10')} !== null")
    assert [one for one in page.branches(tab) if one.startswith("Zone")] == [
        "Zone",
        "Zone 2",
        "Zone 10",
    ]
    for number in range(101, 221):
        world.post(f"/domains/{world.domain['ID']}/zones", {"name": f"Zone {number}"})
    tab.wait(f"{page.place('Zone 220')} !== null")
    page.open_way(tab, "Other Corp")
    tab.js(
        f"{page.place('Domain')}.querySelector('.twig').click(); "
        f"{page.place('Domain')}.querySelector('.twig').click()"
    )
    note = f"{page.place('Domain')}.querySelector('.shelf > .note')"
    tab.wait(
        f"{note}.innerText.startsWith('99 of 123.')",
        what="the first page, without the zone that a domain always has",
    )
    tab.js(f"{note}.querySelector('button').click()")
    tab.wait(f"{page.place('Zone 220')} !== null && {note}.hidden")
    page.open_way(tab, *WAY)
    assert world.root.delete(f"/zones/{zone['ID']}")[0] == 204
    world.delete(made)
    tab.wait(
        f"{page.place('Zone 10')} === null && "
        "document.querySelectorAll('tr[data-vport]').length === 0"
    )
    for text in ("CREATE", "UPDATE", "DELETE", "container renamed", "zone Zone 10", "10.21.59.2"):
        tab.wait(f"document.getElementById('events').innerText.includes('{text}')")
    tab.wait(
        "document.getElementById('requests').innerText.includes('POST') && /\\d+\\.\\d "
        "ms/.test(document.getElementById('requests').innerText)"
    )


def test_many_containers_come_in_pages_and_their_events_ask_for_little(tab, world):
    for number in range(230):
        world.container(f"old-{number}", "Big")
    tab.wait(
        "document.getElementById('events').innerText.includes('old-229')",
        what="their events are over",
    )
    page.open_way(tab, *WAY[:3], "Big")
    tab.wait("document.querySelectorAll('tr[data-vport]').length === 100")
    assert names(tab)[:2] == ["old-0", "old-1"]
    assert "100 of 230 vPorts." in tab.js(f"{page.place('Big')}.innerText")
    tab.js(
        "[...document.querySelectorAll('.vports button')].find((one) => one.textContent === "
        "'Show 100 more').click()"
    )
    tab.wait("document.querySelectorAll('tr[data-vport]').length === 200")
    assert page.search(tab, "old-229")[0].startswith("old-229 10.40.0.231")
    tab.press("ArrowDown", "Enter")
    tab.wait(
        "document.activeElement.textContent.startsWith('10.40.0.231')",
        what="a row beyond the page is shown and has the focus",
    )
    time.sleep(1.5)  # what was asked for by being seen has come in
    before = len(tab.asked())
    for number in range(250):
        world.container(f"new-{number}", "Big")
    tab.wait("document.querySelectorAll('tr[data-vport]').length === 451")
    tab.wait(f"{page.place('Big')}.innerText.includes('451 of 480 vPorts.')")
    tab.js(f"{page.place('Big')}.scrollIntoView()")  # a bar that nobody sees does not ask
    tab.wait(f"{bar('Big')}.startsWith('480 used')")
    polls = [one for one in tab.asked()[before:] if "/events" in one or "/lab/requests" in one]
    # 750 events and more; what is seen asks for its policy groups.
    assert len(tab.asked()) - before - len(polls) < 120, tab.asked()[before:]
    assert tab.js("document.querySelectorAll('.feed li').length") <= 300


# -- people


def test_search_finds_by_name_address_and_mac_and_leads_there(tab, world):
    made = [world.container(name) for name in ("alpha", "beta", "Gamma")]
    port = made[1]["interfaces"][0]
    where = "Enterprise › Domain › Zone › Subnet 2"
    expected = f"beta 10.21.59.3 {port['MAC']} {where}"
    for text in (
        "beta",
        "10.21.59.3",
        port["MAC"],
        port["MAC"].upper(),
        port["MAC"].replace(":", ""),
        port["MAC"][6:],
        made[1]["UUID"],
    ):
        assert page.search(tab, text) == [expected], text
    # A VSD's filter minds the case; the page says what it finds.
    assert page.search(tab, "gamma") == [] or page.search(tab, "Gamma")
    # Three vPorts, and the subnets of three tenants, told apart by their way.
    assert len(page.search(tab, "10.21.59")) == 6
    assert page.search(tab, "tiny") == ["Subnet Tiny 10.21.60.0/29 Enterprise › Domain › Zone"]
    assert page.search(tab, "no such thing") == []
    assert tab.js("document.getElementById('found').textContent") == "Nothing found"
    page.search(tab, "beta")
    tab.press("Enter")
    tab.wait(
        "document.activeElement.textContent.startsWith('10.21.59.3')", what="the row has the focus"
    )
    assert tab.js(f"{page.place(*WAY)} !== null") and names(tab) == ["alpha", "beta", "Gamma"]


def test_everything_works_with_the_keyboard_alone_and_the_focus_is_seen(tab, world):
    world.container("web", runs=True)
    focus = "document.activeElement.textContent"
    tab.press("ArrowDown")
    assert tab.js(focus).startswith("Enterprise Enterprise")
    tab.press("Enter")
    tab.wait(f"{page.place('Domain')} !== null")
    tab.press("ArrowRight", "ArrowRight")
    tab.wait(f"{page.place('Zone')} !== null")
    tab.press("ArrowRight", " ")
    tab.wait(f"{page.place('Subnet 2')} !== null")
    assert (
        tab.js("document.activeElement.getAttribute('aria-expanded')") == "true"
        and tab.js(focus) == "Zone Zone "
    )
    tab.press("ArrowLeft")
    assert tab.js("document.activeElement.getAttribute('aria-expanded')") == "false"
    tab.press("ArrowLeft")
    assert tab.js(focus).startswith("Domain Domain")
    tab.press("End")
    assert tab.js(focus).startswith("Enterprise Other Corp")
    tab.press("Home")
    assert tab.js(focus).startswith("Enterprise CSP")
    reached = []
    for _ in range(30):
        tab.press("Tab")
        seen = tab.js("""(() => { const one = document.activeElement, style = getComputedStyle(one);
          const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
          return [one.getAttribute("aria-label") ?? one.id ?? one.textContent,
            one === document.body || isSeen]; })()""")
        reached.append(seen)
    assert all(is_seen for _, is_seen in reached), reached
    page.search(tab, "web")
    tab.press("ArrowDown", "Enter")
    tab.wait("document.activeElement.matches('tr[data-vport]')")
    world.root.delete(
        "/containers/" + world.root.get("/containers")[2][0]["ID"] + "?responseChoice=1"
    )
    tab.wait(
        "document.activeElement.textContent.startsWith('Subnet Subnet 2')",
        what="the focus goes to the network when its vPort goes",
    )
    assert {
        "Hold the events",
        "Latest events",
        "Hold the requests",
        "Latest requests",
        "logout",
        "query",
    } <= {name for name, _ in reached}


def test_a_screen_reader_is_told_what_things_are_and_is_not_flooded(tab, world):
    world.container("web", runs=True)
    page.open_way(tab, *WAY)
    tab.wait(f"{has_row('web')} && {bar(*WAY)}.startsWith('1 used')")
    spoken = tab.spoken()
    assert [name for role, name, _ in spoken if role == "heading"] == [
        "VSD simulator",
        "Search",
        "Networks",
        "Events",
        "Requests",
    ]
    twigs = {name: facts.get("expanded") for role, name, facts in spoken if role == "button"}
    assert twigs[f"Subnet Subnet 2 {CAPTION}"] is True and twigs["Enterprise Other Corp"] is False
    assert ("table", "vPorts of Subnet 2") in [(role, name) for role, name, _ in spoken]
    assert [name for role, name, _ in spoken if role == "columnheader"] == [
        "Address",
        "MAC",
        "Container",
        "Policy groups",
        "Status",
        "vPort",
        "Host",
    ]
    assert ("image", "1 used, 1 reserved, 252 free of 254 addresses") in [
        (role, name) for role, name, _ in spoken
    ]
    tab.resize(360)
    roles = [role for role, _, _ in tab.spoken()]
    # It looks like a list of cards, and still is a table.
    assert roles.count("table") == 1 and roles.count("columnheader") == roles.count("cell") == 7
    tab.resize(1200)
    live = tab.js(
        "[...document.querySelectorAll('[role=status], [role=alert], [aria-live]')].map((one) "
        "=> one.id)"
    )
    # Neither the tree nor a feed.
    assert sorted(live) == [
        "announcement",
        "connection",
        "found",
        "notice",
        "refusal",
    ]
    tab.js(
        "window.said = 0; new MutationObserver(() => "
        "window.said++).observe(document.getElementById('announcement'), {childList: true})"
    )
    for number in range(30):
        world.container(f"c{number}")
    tab.wait(has_row("c29"))
    assert tab.js("window.said") <= 2 and "added" in tab.js(
        "document.getElementById('announcement').textContent"
    )


def test_a_user_of_an_organisation_sees_its_own_enterprise_only(browser, vsd, world):
    world.container("web")
    with browser.tab(vsd.url + "/") as tab:
        page.log_in(tab, "admin", "admin", "Other Corp")
        assert page.branches(tab) == ["Other Corp"]
        assert page.search(tab, "web") == [] and len(page.search(tab, "Subnet 2")) == 1
        assert "Only csproot" in tab.js("document.getElementById('requests').innerText")
        assert not [one for one in tab.asked() if "/lab/" in one]
        world.container("theirs")  # an event that is not for this user
        own = World(vsd, "Other Corp")
        own.container("ours")
        own.root.close()
        tab.wait("document.getElementById('events').innerText.includes('container ours')")
        assert "theirs" not in tab.js("document.body.innerText")
        check(tab, vsd.url)


HOSTILE = [
    '"><script>window.bad=1</script>',
    "<img src=x onerror=window.bad=1>",
    'it\'s "both" & <b>50%</b> \\ back',
    "{{7*7}}${7*7}",
    "שלום עולם",
    "evil\u202etxt.exe",
    "\U0001f433 名前 İi",
    "x" * 255,
    "a b" + " \t" + "c",
]


def test_hostile_names_are_shown_as_text_and_found(tab, world):
    subnet = world.post(
        f"/zones/{world.zone['ID']}/subnets",
        {"name": "<i>'\"" + "w" * 250, "address": "10.99.0.0", "netmask": "255.255.255.0"},
    )
    group = world.post(
        f"/domains/{world.domain['ID']}/policygroups",
        {"name": "<u>" + "g" * 300, "type": "SOFTWARE"},
    )
    made = [world.container(name, network_id=subnet["ID"]) for name in HOSTILE]
    assert (
        world.root.put(
            f"/vports/{made[0]['interfaces'][0]['VPortID']}/policygroups?responseChoice=1",
            [group["ID"]],
        )[0]
        == 204
    )
    page.open_way(tab, *WAY[:3], subnet["name"])
    tab.wait(
        "document.querySelectorAll('tr[data-vport]').length === 9 && "
        "document.querySelector('td.policy-groups').textContent !== ''"
    )
    assert names(tab) == HOSTILE
    assert page.rows(tab)[0]["Policy groups"] == group["name"]
    for name in HOSTILE[:8]:
        hits = page.search(tab, name)
        assert [hit for hit in hits if hit.startswith(name)], (name, hits)
    for width in (1600, 360):
        tab.resize(width)
        assert tab.js("document.documentElement.scrollWidth") <= width
    assert tab.js("window.bad") is None
    assert (
        tab.js("document.querySelectorAll('script').length") == 1
        and tab.js("document.querySelectorAll('main img, main i, main b, main u').length") == 0
    )


def test_the_browser_itself_refuses_markup_from_scripts_and_scripts_from_elsewhere(
    browser, vsd, world
):
    with browser.tab(vsd.url + "/") as tab:
        tried = (
            "(() => {{ try {{ {} return 'taken'; }} catch (problem) {{ return problem.name; }} "
            "}})()"
        )
        assert tab.js(tried.format("document.createElement('p').innerHTML = '<b>';")) == "TypeError"
        assert (
            tab.js(
                tried.format(
                    "const made = document.createElement('script'); made.src = '/page/main.js';"
                )
            )
            == "TypeError"
        )
        assert (
            tab.js("fetch('https://127.0.0.1:9/').then(() => 'asked', () => 'refused')")
            == "refused"
        )
        assert [one for one in tab.problems() if "Content Security Policy" in one]


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_everything_is_readable_and_nothing_is_cut_off(browser, vsd, world, is_dark, tmp_path):
    for name in ("web", "db", "queue"):
        world.container(name, runs=name != "queue")
    for number in range(5):
        world.container(f"tiny-{number}", "Tiny")
    with browser.tab(vsd.url + "/", dark=is_dark) as tab:
        tab.wait("document.activeElement.name === 'user'")
        assert page.contrasts(tab)[0][0] >= 4.5, page.contrasts(tab)[:3]
        page.log_in(tab)
        page.open_way(tab, *WAY)
        tab.wait(has_row("queue"))
        world.delete(world.container("gone"))
        tab.wait("document.querySelector('.verb.delete') !== null")
        page.search(tab, "10.21")
        for width in (360, 720, 1100, 1600):
            tab.resize(width)
            assert tab.js("document.documentElement.scrollWidth") <= width
            worst = page.contrasts(tab)
            assert len(worst) > 60 and worst[0][0] >= 4.5, (width, worst[:3])
            cut = tab.js("""[...document.querySelectorAll("#tree .value, .figures, button, .hit")]
              .filter((one) => one.checkVisibility()
                && (one.getBoundingClientRect().right > innerWidth
                  || one.getBoundingClientRect().left < 0))
              .map((one) => one.textContent)""")
            assert cut == [], (width, cut)
        grounds = tab.js("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, grounds[4:-1].split(","))) < 200) is is_dark, grounds


# -- when it is away


def test_a_lost_simulator_is_told_and_the_page_recovers_also_after_a_restart_with_other_keys(
    browser, vsd, other, world
):
    host, ports = "127.0.0.1", [int(one.url.rpartition(":")[2]) for one in (vsd, other)]
    wire = Wire(host, (host, ports[0]), elsewhere=(host, ports[1]))
    try:
        with browser.tab(wire.url + "/") as tab:
            page.log_in(tab)
            page.open_way(tab, *WAY)
            first = world.container("first")
            tab.wait(has_row("first"))
            wire.mode = "refused"
            tab.wait("document.getElementById('connection').textContent === 'Lost'")
            assert "does not answer" in tab.js(
                "document.getElementById('notice').textContent"
            ) and names(tab) == ["first"]
            world.delete(first)
            world.container("second")
            wire.mode = "pass"
            tab.wait(
                f"{has_row('second')} && !{has_row('first')}",
                what="what happened meanwhile is shown",
            )
            assert page.state(tab) == "Live" and tab.js("document.getElementById('notice').hidden")
            wire.mode = "failing"
            tab.wait("document.getElementById('connection').textContent === 'Lost'")
            there = World(other)
            there.container("third")
            # Another process: no key and no place in the events is known there
            wire.mode = "elsewhere"
            tab.wait(f"{has_row('third')} && !{has_row('second')}")
            assert page.state(tab) == "Live"
            there.container("fourth")
            tab.wait(has_row("fourth"), what="events are followed again")
            tab.go("about:blank")  # while it is open the page would renew its key
            other.admin("POST", "/expire-keys")
            tab.go(wire.url + "/")
            tab.wait(
                "document.getElementById('refusal').textContent.includes('no longer valid')",
                what="a reload has no password to renew the key",
            )
            fields = "document.getElementById('login').elements"
            assert tab.js(
                f"[document.activeElement.name, {fields}.user.value, {fields}.organization.value]"
            ) == ["password", "csproot", "csp"]
            tab.write("csproot")
            tab.press("Enter")
            tab.wait("document.querySelectorAll('.twig').length === 3")
            check(tab, wire.url)
            there.root.close()
    finally:
        wire.close()


def test_a_key_that_ends_while_the_page_is_open_is_renewed_unnoticed(tab, world):
    page.open_way(tab, *WAY)
    world.vsd.admin("POST", "/expire-keys")
    world.root.secret = "csproot"
    world.root.me()
    world.container("web")
    tab.wait(has_row("web"))
    page.open_way(tab, "Enterprise", "Domain", "Zone 2")
    tab.wait(f"{page.place('Subnet 3')} !== null")
    assert page.state(tab) == "Live"


# -- the lab


@pytest.fixture()
def lab_tab(chromium, lab):
    """The page of the lab's VSD, in a browser that has the infra host's network and no other."""
    with (
        Browser([lab.vsd_state / "server.pem"], namespace=lab.infra.full_name) as running,
        running.tab(f"{VSD_URL}/", 1200, 792) as tab,
    ):
        page.log_in(tab)
        yield tab
        check(tab, VSD_URL)


def test_a_container_of_the_lab_appears_with_docker_run_and_goes_when_it_is_removed(
    lab, lab_tab, request
):
    tab, host = lab_tab, lab.host("h1")
    clean(host)
    try:
        create(host, "MyNet")
        page.open_way(tab, *WAY)
        tab.wait(f"{bar(*WAY)}.startsWith('0 used')")
        empty = page.usage(tab, *WAY)
        run(host, "web", "MyNet", "-e", "NUAGE-POLICY-GROUP=Web,DB")
        tab.wait(
            (
                "document.querySelector('td.status')?.textContent === 'RUNNING' && "
                "document.querySelector('td.policy-groups').textContent === 'DBWeb'"
            ),
            60,
        )
        wait_agreement(lab, host)
        [(_, _, address, mac)] = engine_endpoints(host)
        assert page.rows(tab) == [
            {
                "Address": address,
                "MAC": mac,
                "Container": "web",
                "Policy groups": "DB Web",
                "Status": "RUNNING",
                "vPort": "UP",
                "Host": host.address,
            }
        ]
        tab.wait(f"{bar(*WAY)}.startsWith('1 used')")
        assert page.usage(tab, *WAY)[1] > empty[1]
        for text in ("web", address, mac):
            assert [
                hit
                for hit in page.search(tab, text)
                if hit.startswith(f"web {address} {mac} Enterprise › Domain › Zone › Subnet 2")
            ], text
        tab.press("Escape")
        feeds = tab.js("document.querySelector('aside').innerText")
        assert "POST" in feeds and "/containers" in feeds and " ms" in feeds and "CREATE" in feeds
        if request.config.getoption("--picture"):
            _take_picture(tab, host, request.config.getoption("--picture"))
        host.docker("stop", "web")
        tab.wait(f"!{has_row('web')}", 60)
        tab.wait(
            "[...document.querySelectorAll('#events li')].some((one) => "
            f"one.textContent.includes('DELETE') && one.textContent.includes('{address}'))"
        )
        clean(host)
        tab.wait(f"{bar(*WAY)} === {json.dumps(empty[0])}", 60)
    finally:
        clean(host)


def test_the_page_of_a_lab_is_lent_to_the_machines_loopback(lab):
    words = ("--state", str(lab.state), "--prefix", lab.place.prefix, "page", "--port", "0")
    lender = subprocess.Popen(
        [sys.executable, "-m", "nuage_lab", *words],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert select.select([lender.stderr], [], [], 30)[0]
        line = lender.stderr.readline()
        url = line.split()[0]
        assert url.startswith("https://127.0.0.1:"), line
        answers = [
            requests.get(url + path, verify=lab.ca_file, timeout=30)
            for path in ("", "page/main.js")
        ]
        assert [one.status_code for one in answers] == [
            200,
            200,
        ] and "<title>VSD simulator</title>" in answers[0].text
        lender.send_signal(signal.SIGINT)
        assert lender.wait(30) == 0
    finally:
        if lender.poll() is None:
            kill_session(lender)
        lender.stderr.close()


def _take_picture(tab, host, path):
    """The README's picture: a lab with a few containers of several networks."""
    create(host, "Front", subnet="Subnet 1")
    create(host, "Small", subnet="Tiny")
    for name, network, group in (
        ("api", "MyNet", "Web"),
        ("db", "MyNet", "DB"),
        ("cache", "MyNet", ""),
        ("proxy", "Front", "Web"),
        ("proxy-2", "Front", "Web"),
        ("t1", "Small", ""),
        ("t2", "Small", ""),
        ("t3", "Small", ""),
    ):
        run(host, name, network, *(("-e", f"NUAGE-POLICY-GROUP={group}") if group else ()))
    page.open_way(tab, *WAY[:3], "Subnet 1")
    for name in ("cache", "proxy-2"):
        tab.wait(has_row(name), 60)
    tab.wait(
        "[...document.querySelectorAll('td.status')].every((one) => one.textContent === 'RUNNING')",
        60,
    )
    time.sleep(2)  # the bars and the feeds come to rest
    tab.js("document.activeElement.blur(); window.scrollTo(0, 0)")
    tab.picture(path)
