"""The VSD is away, in every way that it can be: a table of faults and of what happens meanwhile.

For each fault there is one period, in which everything is tried at once on one host, and a second
host is started.
"""

import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.appliance import PATIENCE_S
from tests.support.host import Host, start_simulator
from tests.support.plugin_calls import pool_body, refusal, release, reserved
from tests.support.scripted_engine import OPTIONS, PluginError
from tests.support.shifted_clock import launcher
from tests.support.wire import Wire

_DEADLINE_S = 2  # the shortest that the configuration allows; 20 s by default
# for a busy machine; whoever ignored the deadline would take 20 s, or as long as the fault lasts
_SLACK_S = 4
_EVERYTHING = {"method": "*", "path": ".", "count": 0}
_OTHER_SUBNET = {**OPTIONS, "subnet": "Subnet 1"}

# What the VSD does -> what the user reads as the cause.
FAULTS = {
    "refuses connections": ("refused", "cannot be reached: .*Connection refused"),
    "accepts and stays silent": ("silent", "did not answer within|no answer within"),
    "does not speak TLS": ("plain", "the TLS connection .* failed: WRONG_VERSION_NUMBER"),
    "shows another certificate": ("elsewhere", "the certificate of .* is not trusted .*cafile"),
    "resets requests": ({"action": "reset"}, "closed the connection before it answered"),
    "answers 503 in JSON": ({"action": "503"}, "answered with status 503: Service is unavailable"),
    "answers 503 in HTML": ({"action": "503html"}, "answered with status 503"),
    "hangs": ({"action": "hang", "seconds": 60}, "did not answer within"),
    "does the work and loses every reply": (
        {"action": "reset_after"},
        "closed the connection before it answered",
    ),
    "answers half a JSON text": ({"action": "malformed"}, "something that is not JSON"),
    "answers nothing at all": (
        {"action": "empty"},
        "without an API key|with nothing|without a count|gave no",
    ),
    "answers 401 to everything": ({"action": "401"}, "refuses"),
}


class _Behind:
    """A simulator as a host sees it through a wire."""

    def __init__(self, simulator, wire):
        self._simulator, self.url = simulator, wire.url

    def __getattr__(self, name):
        return getattr(self._simulator, name)


@pytest.fixture(scope="module")
def wire(simulator):
    """The wire that all hosts of this module have to the VSD."""

    def place(url):
        host, port = url.removeprefix("https://").split(":")
        return host, int(port)

    other = start_simulator()
    made = Wire(place(simulator.url)[0], place(simulator.url), place(other.url))
    yield made
    made.close()
    other.stop()


@pytest.fixture(scope="module")
def pair(simulator, wire):
    """One host that is running when the VSD goes away, and one that is started meanwhile."""
    # A creation whose reply was lost leaves a container for the audit, whose minute of grace would
    # be long here.
    settings = {"requesttimeout": _DEADLINE_S, **launcher(grace_s=1.5)}
    made = [Host(_Behind(simulator, wire), name, **settings) for name in ("running", "starting")]
    yield made
    for host in made:
        host.close()


@pytest.fixture
def behind_wire(simulator, wire):
    """Makes hosts behind the wire that end with the test."""
    made = []

    def make(**settings):
        made.append(
            Host(_Behind(simulator, wire), f"wired-{len(made)}-{time.monotonic_ns()}", **settings)
        )
        return made[-1]

    yield make
    wire.mode = "pass"
    simulator.admin("DELETE", "/faults")
    for host in made:
        host.check_log()
        host.close()


def _begin(simulator, wire, what):
    if isinstance(what, str):
        wire.mode = what
    else:
        simulator.admin("POST", "/faults", {**_EVERYTHING, **what})


def _end(simulator, wire):
    simulator.admin("DELETE", "/faults")
    if wire.mode != "pass":
        wire.mode = "pass"


def _timed(work, *arguments):
    """(what came out, seconds); what a PluginError said comes out as the exception."""
    started = time.monotonic()
    try:
        result = work(*arguments)
    except PluginError as error:
        result = error
    return result, time.monotonic() - started


def _answers(host, until):
    """Ask what needs no backend until the event is set; returns how long the slowest answer took,
    and the VSD's problems that were shown.
    """
    slowest, problems = 0.0, set()
    while not until.is_set():
        for plugin, method in (
            (host.engine.network, "NetworkDriver.GetCapabilities"),
            (host.engine.ipam, "IpamDriver.GetDefaultAddressSpaces"),
            (host.engine.network, "Plugin.Activate"),
        ):
            slowest = max(slowest, _timed(plugin.call, method)[1])
        problems.add(host.appliance.status()["components"]["vsd"]["problem"])
        until.wait(0.05)
    return slowest, problems


class Period:
    """Everything that was tried while the VSD was away, and what came of it."""

    def __init__(self, pair, simulator, wire, fault):
        self.running, self.starting = pair
        self.fault, (what, self.cause) = fault, FAULTS[fault]
        self.networks = {host: host.engine.network_create("n") for host in pair}
        self.kept = {host: host.engine.run("kept", self.networks[host]) for host in pair}
        self.stopped = {host: host.engine.run("stopped", self.networks[host]) for host in pair}
        for host in pair:
            host.wait_attached(self.kept[host], self.stopped[host])
        self.started = self.running.engine.setup(self.networks[self.running])
        self.started.update(container_id="5" * 64, name="started")
        self.posts = simulator.admin("GET", "/counters").get("POST /containers", 0)
        self.starting.appliance.kill()
        _begin(simulator, wire, what)
        try:
            self._try_everything()
        finally:
            _end(simulator, wire)
        self.posts = simulator.admin("GET", "/counters").get("POST /containers", 0) - self.posts

    def _try_everything(self):
        running, network_id, tried = self.running, self.networks[self.running], threading.Event()
        with ThreadPoolExecutor(6) as pool:
            answers = pool.submit(_answers, running, tried)
            jobs = {
                "request": pool.submit(_timed, reserved, running, network_id),
                "create": pool.submit(
                    _timed, lambda: running.engine.network_create("other", _OTHER_SUBNET)
                ),
                "stop": pool.submit(_timed, running.engine.stop, self.stopped[running]),
                "start": pool.submit(_timed, self._start),
            }
            running.engine.publish(self.started)
            try:
                self.outcomes = {name: job.result() for name, job in jobs.items()}
            finally:
                tried.set()
            self.slowest_s, self.problems = answers.result()
        self.problems.add(running.appliance.status()["components"]["vsd"]["problem"])

    def _start(self):
        starting = self.starting
        starting.restart(wait=False)
        answered = _timed(starting.engine.network.call, "NetworkDriver.GetCapabilities")
        stopped = _timed(starting.engine.stop, self.stopped[starting])
        # A process that has just started may not have read the VRS at the Leave.
        starting.wait_detached(self.stopped[starting])
        return answered, stopped, starting.ovsdb.names("Nuage_Port_Table")

    def expected(self, host):
        """The addresses that this host's containers have when all is well."""
        endpoints = [self.kept[host], self.started] if host is self.running else [self.kept[host]]
        return sorted(endpoint["address"].split("/")[0] for endpoint in endpoints)


@pytest.fixture(scope="module", params=FAULTS)
def period(request, pair, simulator, wire):
    """One fault, from its beginning to its end; afterwards everything is cleared away."""
    for host in pair:
        host.begin()
    yield Period(pair, simulator, wire, request.param)
    for host in pair:
        host.tear_down()
        _audit_until(host, lambda host=host: not host.leftovers())
        host.check_log()


def _check_sentence(period, text, wire):
    assert f"the VSD at {wire.url}" in text, text
    assert re.search(period.cause, text), text
    assert (
        "\n" not in text
        and len(text) < 300
        and "Traceback" not in text
        and "object at 0x" not in text
    ), text


def test_a_request_for_an_address_fails_in_time_with_one_sentence(period, wire):
    error, seconds = period.outcomes["request"]
    assert isinstance(error, PluginError) and seconds < _DEADLINE_S + _SLACK_S, (error, seconds)
    _check_sentence(period, error.text, wire)


def test_a_network_is_refused_in_time_with_one_sentence(period, wire):
    error, seconds = period.outcomes["create"]
    assert isinstance(error, PluginError) and seconds < _DEADLINE_S + _SLACK_S, (error, seconds)
    _check_sentence(period, error.text, wire)


def test_a_stop_succeeds_for_the_engine_at_once(period):
    result, seconds = period.outcomes["stop"]
    assert result is None and seconds < _DEADLINE_S + _SLACK_S, (result, seconds)


def test_the_sockets_keep_answering_and_the_status_names_the_cause(period, wire):
    assert period.slowest_s < _DEADLINE_S, "one that asked the VSD would take the whole deadline"
    if period.fault == "answers nothing at all":
        return  # an empty success is one to the session; only who reads it knows better
    shown = [problem for problem in period.problems if re.search(period.cause, problem)]
    assert shown, period.problems
    _check_sentence(period, shown[0], wire)


def test_an_appliance_that_starts_meanwhile_answers_at_once_and_releases_what_it_is_told_to(period):
    ((capabilities, answered_s), (stopped, stopped_s), ports), _ = period.outcomes["start"]
    assert isinstance(capabilities, dict) and answered_s < _DEADLINE_S
    assert stopped is None and stopped_s < _DEADLINE_S + _SLACK_S
    assert ports == [period.kept[period.starting]["entity_port"].replace("-2", "-1")], (
        "running containers are left alone"
    )


def test_nothing_is_created_twice(period):
    """One RequestAddress: without any answer it may be sent once, and repeated only when it cannot
    have been carried out.
    """
    assert period.posts <= period.running.appliance.settings.get("numofretries", 5)
    made = period.running.addresses()
    allowed = {
        *period.expected(period.running),
        period.stopped[period.running]["address"].split("/")[0],
    }
    assert len(made) == len(set(made)) and len(set(made) - allowed) <= 1, (made, allowed)


def test_after_it_everything_converges_without_help(period):
    running, starting = period.running, period.starting
    for host in (running, starting):
        host.appliance.wait_until(
            lambda host=host: not host.appliance.status()["components"]["vsd"]["problem"],
            what="the VSD's return",
        )
    running.wait_attached(period.kept[running], period.started)
    running.appliance.wait_until(
        lambda: "started" in [one["name"] for one in running.containers()],
        what="the name on the VSD",
    )
    for host in (running, starting):
        released = period.stopped[host]["address"].split("/")[0]
        host.appliance.wait_until(
            lambda released=released, host=host: released not in host.addresses(),
            what="the release that was put off",
        )
        again = reserved(host, period.networks[host])
        release(host, period.networks[host], again)
        _audit_until(host, lambda host=host: host.addresses() == period.expected(host))
        assert host.ovsdb.names("Nuage_Port_Table") == host.links()
        assert len(host.links()) == len(period.expected(host))


def _audit_until(host, condition, seconds=PATIENCE_S):
    """Audits happen every few minutes by themselves; here they are asked for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (host.addresses(), host.appliance.errors()[-3000:])
        host.appliance.process.send_signal(signal.SIGUSR2)
        time.sleep(0.3)


def test_one_call_that_meets_another_certificate_is_enough_to_show_it(behind_wire, wire):
    """Also when nobody calls again for hours: such a denial does not concern the caller alone."""
    host = behind_wire()
    network_id = host.engine.network_create("n")
    wire.mode = "elsewhere"
    text = refusal(reserved, host, network_id)
    assert "is not trusted" in text
    host.appliance.wait_until(
        lambda: host.appliance.status()["components"]["vsd"]["problem"] == text,
        15,
        what="the cause",
    )
    wire.mode = "pass"
    host.appliance.wait_until(
        lambda: not host.appliance.status()["components"]["vsd"]["problem"], what="the return"
    )
    release(host, network_id, reserved(host, network_id))
    host.engine.network_rm(network_id)


# -- retries -------------------------------------------------------------------------------------


def _hits(simulator):
    return simulator.admin("GET", "/faults")["faults"][0]["hits"]


@pytest.mark.parametrize("tries", [1, 4])
@pytest.mark.parametrize(
    "method, path",
    [("GET", "/enterprises$"), ("POST", "/containers$")],
    ids=["a look-up", "a creation"],
)
def test_a_call_is_tried_as_often_as_numofretries_says(hosts, simulator, tries, method, path):
    host = hosts(numofretries=tries, timeinterval=10)
    network_id = host.engine.network_create("n")
    simulator.admin(
        "POST", "/faults", {"method": method, "path": path, "count": 0, "action": "503"}
    )
    if method == "GET":
        refusal(host.engine.ipam.call, "IpamDriver.RequestPool", pool_body(options=_OTHER_SUBNET))
    else:
        refusal(reserved, host, network_id)
    assert _hits(simulator) == tries


def test_many_retries_and_long_pauses_end_with_the_deadline(hosts, simulator):
    host = hosts(numofretries=100, timeinterval=100, requesttimeout=2)
    network_id = host.engine.network_create("n")
    simulator.admin(
        "POST", "/faults", {"method": "POST", "path": "/containers$", "count": 0, "action": "503"}
    )
    started = time.monotonic()
    assert "status 503" in refusal(reserved, host, network_id)
    assert time.monotonic() - started < _DEADLINE_S + _SLACK_S
    assert 1 < _hits(simulator) < 20, "the pauses grow"


def test_the_pauses_between_tries_are_those_of_timeinterval(hosts, simulator):
    host = hosts(numofretries=3, timeinterval=400)
    host.engine.network_create("n")
    simulator.admin(
        "POST", "/faults", {"method": "GET", "path": "/enterprises$", "count": 0, "action": "503"}
    )
    started = time.monotonic()
    refusal(host.engine.ipam.call, "IpamDriver.RequestPool", pool_body(options=_OTHER_SUBNET))
    assert 0.2 < time.monotonic() - started < 15


@pytest.mark.parametrize("fault, tries", [("refused", 1), ("503", 2), ("reset_after", 2)])
def test_a_short_absence_is_not_noticed_by_the_user(behind_wire, simulator, wire, fault, tries):
    """The call is repeated inside of its deadline and succeeds; nothing is there twice."""
    host = behind_wire(numofretries=10, timeinterval=100)
    network_id = host.engine.network_create("n")
    with ThreadPoolExecutor(1) as pool:
        if fault == "refused":
            wire.mode = "refused"
            running = pool.submit(host.engine.run, "c", network_id)
            host.appliance.wait_until(
                lambda: host.appliance.status()["components"]["vsd"]["problem"],
                what="that it is noticed",
            )
            wire.mode = "pass"
        else:
            simulator.admin(
                "POST",
                "/faults",
                {"method": "*", "path": "/containers", "count": tries, "action": fault},
            )
            running = pool.submit(host.engine.run, "c", network_id)
        endpoint = running.result()
    host.wait_attached(endpoint)
    assert host.addresses() == [endpoint["address"].split("/")[0]]
    host.engine.stop(endpoint)
    host.engine.network_rm(network_id)
    host.wait_clean()


# -- lists ---------------------------------------------------------------------------------------


def test_a_container_deleted_while_the_pages_are_read_hides_no_other_one(hosts, simulator):
    """The pages move up by one then, and an object that was the first of a page is on none of those
    that are read.
    """
    host = hosts()
    network_id = host.engine.network_create("n")
    addresses = [reserved(host, network_id) for _ in range(6)]
    host.appliance.kill()
    first = sorted(host.containers(), key=lambda one: one["ID"])[0]
    simulator.admin("POST", "/config", {"page_max": 2})
    try:
        since = simulator.admin("GET", "/requests")["seq"]
        simulator.admin(
            "POST",
            "/faults",
            {
                "method": "GET",
                "path": "/containers$",
                "count": 3,
                "action": "delay",
                "seconds": 0.7,
            },
        )
        host.restart(wait=False)
        host.appliance.wait_until(
            lambda: [
                one
                for one in simulator.admin("GET", f"/requests?since={since}")["requests"]
                if one["method"] == "GET" and one["path"] == "/containers"
            ],
            what="the first page",
        )
        client = simulator.client()
        client.me()
        assert client.delete(f"/containers/{first['ID']}?responseChoice=1")[0] == 204
        client.close()
        host.appliance.wait_until(
            lambda: sum(host.appliance.status()["components"]["endpoints"]["states"].values()) >= 4,
            what="the list",
        )
    finally:
        simulator.admin("POST", "/config", {"page_max": 500})
        simulator.admin("DELETE", "/faults")
    for address in addresses:
        release(host, network_id, address)
    host.engine.network_rm(network_id)
    host.wait_clean()
