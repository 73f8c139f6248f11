"""The life of the process: its bounds, its end, its configuration read again, its log, and the
clock it lives by.
"""

import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.appliance import encode
from tests.support.host import Host
from tests.support.plugin_calls import pool_body, refusal, release, reserved
from tests.support.scripted_engine import OPTIONS, PluginError
from tests.support.shifted_clock import launcher

_SLOW_CALL = {"method": "POST", "path": "/containers$", "count": 0, "action": "hang"}
_DAY_S = 86_400


@pytest.fixture
def many_files():
    """Room for thousands of connections in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000) if hard > 0 else 20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- bounds --------------------------------------------------------------------------------------


def _post(method, body):
    text = json.dumps(body).encode()
    return (
        f"POST /{method} HTTP/1.1\r\nHost:\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
    )


def _connect(stack, path, count):
    """So many connections, each closed with the stack."""
    made = []
    for _ in range(count):
        one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        one.settimeout(60)
        deadline = time.monotonic() + 60
        while True:
            try:
                one.connect(path)
                break
            except BlockingIOError:  # the queue of the listening socket is full for the moment
                assert time.monotonic() < deadline, (
                    f"after {len(made)} connections nobody accepts any more"
                )
                time.sleep(0.01)
        made.append(one)
    return made


def _answers(connections, seconds):
    """Everything that the connections were sent until each has its answer, or the time is over."""
    got, waiting, deadline = (
        {one: b"" for one in connections},
        set(connections),
        time.monotonic() + seconds,
    )
    poll = select.poll()
    by_number = {one.fileno(): one for one in connections}
    for one in connections:
        poll.register(one, select.POLLIN)
    while waiting and time.monotonic() < deadline:
        for number, _ in poll.poll(200):
            one = by_number[number]
            piece = one.recv(65536)
            got[one] += piece
            if not piece or got[one].endswith(b"}"):
                waiting.discard(one)
                poll.unregister(number)
    return list(got.values())


def test_more_than_1024_calls_at_once_are_refused_clearly_and_nothing_is_lost(
    hosts, simulator, many_files
):
    host = hosts(requesttimeout=4)
    network_id = host.engine.network_create("n")
    kept = host.engine.run("kept", network_id)
    host.wait_attached(kept)
    before = host.state()
    simulator.admin("POST", "/faults", {**_SLOW_CALL, "seconds": 60})
    body = {"PoolID": host.engine.pools[network_id][0], "Address": "", "Options": None}
    with contextlib.ExitStack() as stack:
        connections = _connect(stack, host.appliance.sockets[1], 1100)
        for one in connections:
            one.sendall(_post("IpamDriver.RequestAddress", body))
        answers = _answers(connections, 60)
    refused = [
        answer for answer in answers if b"1024 calls are running already; try again" in answer
    ]
    failed = [answer for answer in answers if answer not in refused and b"the VSD at " in answer]
    assert len(refused) + len(failed) == 1100 and len(refused) >= 1100 - 1024, (
        len(refused),
        len(failed),
        set(answers),
    )
    assert all(answer.startswith(b"HTTP/1.1 503") and b'"Err"' in answer for answer in refused)
    simulator.admin("DELETE", "/faults")
    host.appliance.wait_until(
        lambda: not host.appliance.status()["components"]["vsd"]["problem"], what="the VSD"
    )
    host.appliance.wait_until(lambda: host.state() == before, what="as it was")
    endpoint = host.engine.run("later", network_id)
    host.wait_attached(kept, endpoint)
    for one in (kept, endpoint):
        host.engine.stop(one)
    host.engine.network_rm(network_id)
    host.wait_clean()


_TOO_LITTLE = {
    "nothing": b"",
    "half a head": b"POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nContent-Le",
    "half a body": b"POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
}


@contextlib.contextmanager
def _crowd(host, sent):
    """3,000 clients on each socket that send this and wait."""
    with contextlib.ExitStack() as stack:
        for path in host.appliance.sockets:
            for one in _connect(stack, path, 3000):
                # One that had to make place for another, or that was refused.
                with contextlib.suppress(OSError):
                    one.sendall(sent)
        yield


@pytest.mark.parametrize("sent", ["nothing", "half a head"])
def test_3000_connections_that_send_no_whole_request_stop_no_other_call(own_host, many_files, sent):
    network_id = own_host.engine.network_create("n")
    with _crowd(own_host, _TOO_LITTLE[sent]):
        started = time.monotonic()
        endpoint = own_host.engine.run("c", network_id)
        assert time.monotonic() - started < 8
        own_host.wait_attached(endpoint)
        own_host.engine.stop(endpoint)
    own_host.engine.network_rm(network_id)
    own_host.wait_clean()


def test_3000_connections_that_stop_in_the_midst_of_a_body_are_bounded_and_forgotten_when_they_end(
    own_host, many_files
):
    """These are running calls, so that others may be refused meanwhile, but with a word and not for
    ever.
    """
    network_id = own_host.engine.network_create("n")
    with _crowd(own_host, _TOO_LITTLE["half a body"]):
        try:
            own_host.engine.run("c", network_id)
        except PluginError as error:
            assert error.status == 503 and "try again" in error.text, error
        except OSError:
            pass  # the connection was ended before the refusal could be read
    own_host.engine.network.disconnect()
    own_host.engine.ipam.disconnect()
    own_host.appliance.wait_until(
        lambda: own_host.appliance.status()["components"]["endpoints"]["states"] is not None,
        what="an answer",
    )
    endpoint = own_host.engine.run("later", network_id)
    own_host.wait_attached(endpoint)


# -- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end_leaves_running_containers_alone_and_no_socket_behind(own_host, number):
    network_id = own_host.engine.network_create("n")
    endpoint = own_host.engine.run("c", network_id)
    own_host.wait_attached(endpoint)
    before = own_host.state()
    assert own_host.appliance.kill(number) == 0
    for path in [*own_host.appliance.sockets, own_host.appliance.directory / "status.sock"]:
        assert not os.path.lexists(path)
    assert (
        own_host.links() == before["links"]
        and own_host.ovsdb.names("Nuage_Port_Table") == before["ports"]
    )
    assert [one["name"] for one in own_host.containers()] == ["c"]
    own_host.restart()
    own_host.appliance.wait_until(lambda: own_host.state() == before, what="as it was")


def test_calls_that_never_end_hold_up_the_end_for_ten_seconds_at_most(hosts, simulator):
    host = hosts(requesttimeout=60)
    network_id = host.engine.network_create("n")
    simulator.admin("POST", "/faults", {**_SLOW_CALL, "seconds": 60})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(reserved, host, network_id)
        host.appliance.wait_until(
            lambda: simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1, what="the call"
        )
        started = time.monotonic()
        assert host.appliance.kill(signal.SIGTERM) == 0
        assert 9 < time.monotonic() - started < 25, "the call itself would take a minute"
        assert running.exception() is not None
    assert "still running" in host.appliance.errors() and not any(
        os.path.lexists(path) for path in host.appliance.sockets
    )


def test_a_second_sigterm_changes_nothing_of_the_first(hosts, simulator):
    host = hosts()
    network_id = host.engine.network_create("n")
    simulator.admin(
        "POST",
        "/faults",
        {"method": "POST", "path": "/containers$", "count": 1, "action": "delay", "seconds": 1.5},
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(reserved, host, network_id)
        host.appliance.wait_until(
            lambda: simulator.admin("GET", "/faults")["faults"][0]["hits"] == 1, what="the call"
        )
        for _ in range(3):
            host.appliance.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert running.result().startswith("10.21.59.")
        assert host.appliance.process.wait(60) == 0


def _blocks(pid, number):
    """True while a process lets a signal wait (proc(5))."""
    mask = re.search(r"^SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]
    return bool(int(mask, 16) & 1 << (number - 1))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_during_the_start_waits_for_its_end(own_host, number):
    appliance = own_host.appliance
    for starts, pause_s in enumerate((0.0, 0.3), 1):
        appliance.kill(signal.SIGTERM)
        appliance.start(wait=False)
        appliance.wait_until(
            lambda: (
                _blocks(appliance.process.pid, number) or appliance.listens(appliance.sockets[0])
            ),
            what="the first of its own code",
        )
        time.sleep(pause_s)
        appliance.process.send_signal(number)
        appliance.wait_until(
            lambda: all(map(appliance.listens, appliance.sockets)), what="the sockets"
        )
        if number != signal.SIGUSR2:
            appliance.wait_until(
                lambda starts=starts: (
                    appliance.errors().count("the configuration was read again") == starts
                ),
                what="the reload",
            )


def test_a_second_one_on_the_same_sockets_is_refused_and_takes_nothing_from_the_first(shared_host):
    done = subprocess.run(
        shared_host.appliance.command(),
        env=shared_host.appliance.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "is served by another process; stop it first" in done.stderr
    assert shared_host.appliance.status()["version"]


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("a file", "cannot be made: {path} is not a socket; remove it"),
        ("a live socket", "is served by another process; stop it first"),
    ],
)
def test_what_is_not_ours_at_the_place_of_the_status_socket_is_left_alone(own_host, what, problem):
    appliance = own_host.appliance
    path = appliance.directory / "other.sock"
    with contextlib.ExitStack() as stack:
        if what == "a file":
            path.write_text("precious")
        else:
            other = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            other.bind(str(path))
            other.listen()
        before = os.lstat(path)
        appliance.write(statussocket=str(path))
        appliance.restart(signal.SIGTERM)
        assert f"the status socket {path} {problem.format(path=path)}" in appliance.errors()
        assert appliance.kill(signal.SIGTERM) == 0
        assert os.path.samestat(os.lstat(path), before)
    path.unlink()
    appliance.write(statussocket=str(appliance.directory / "status.sock"))
    appliance.start()


# -- the configuration read again ----------------------------------------------------------------


@pytest.fixture(scope="module")
def reloaded_host(simulator):
    made = Host(simulator, "reloaded", loglevel="Info")
    yield made
    made.close()


@pytest.fixture(params=[signal.SIGHUP, signal.SIGUSR1], ids=["SIGHUP", "SIGUSR1"])
def reload(request, reloaded_host):
    """Writes the configuration and has it read again; returns what the log says about it. In the
    end it is as it was.
    """
    host = reloaded_host
    host.begin()
    before = dict(host.appliance.settings)

    def do(text=None, **settings):
        lines = len(host.appliance.errors().splitlines())
        host.appliance.write(**settings)
        if text is not None:
            host.appliance.config_path.write_text(text)
        host.appliance.process.send_signal(request.param)

        def said():
            return [
                line
                for line in host.appliance.errors().splitlines()[lines:]
                if "the configuration was" in line
            ]

        host.appliance.wait_until(said, what="a line about the configuration")
        return said()[-1]

    do.host = host
    yield do
    host.appliance.settings = before
    do()
    host.tear_down()
    host.wait_clean()
    host.check_log()


@pytest.mark.parametrize(
    "text, words",
    [
        ("url: [", "not valid YAML"),
        ("", "instead of lines"),
        ("loglevel: chatty", "url"),
        (None, "loglevel"),
    ],
    ids=["no YAML", "nothing", "keys missing", "a wrong value"],
)
def test_a_bad_configuration_is_refused_with_its_reason_and_the_old_one_stays(reload, text, words):
    line = reload(text, loglevel="chatty", numofretries=1)
    assert "was not changed" in line and words in line
    network_id = reload.host.engine.network_create("n")
    reload.host.simulator.admin(
        "POST", "/faults", {"method": "POST", "path": "/containers$", "count": 2, "action": "503"}
    )
    _use(reload.host, network_id)  # with the old retries


def _use(host, network_id):
    """An address can be had."""
    address = reserved(host, network_id)
    assert address.startswith("10.21.59.")
    release(host, network_id, address)


def test_a_configuration_file_that_is_gone_is_refused(reload):
    path = reload.host.appliance.config_path
    lines = len(reload.host.appliance.errors().splitlines())
    moved = path.with_suffix(".away")
    shutil.move(path, moved)
    try:
        reload.host.appliance.process.send_signal(signal.SIGHUP)
        reload.host.appliance.wait_until(
            lambda: (
                "cannot be read" in "\n".join(reload.host.appliance.errors().splitlines()[lines:])
            ),
            what="the refusal",
        )
    finally:
        shutil.move(moved, path)
    reload.host.engine.network_create("n")


def test_the_log_level_applies_at_once(reload):
    app = reload.host.appliance

    def lines_of_a_call():
        before = len(app.log())
        reload.host.engine.network.call("NetworkDriver.GetCapabilities")
        refusal(
            reload.host.engine.ipam.call,
            "IpamDriver.RequestPool",
            pool_body(options={"organization": "nobody"}),
        )
        return [
            line.split("|")[2]
            for line in app.log()[before:].splitlines()
            if "plugin" in line or "nuage" in line
        ]

    reload(loglevel="Debug")
    assert "DEBUG" in lines_of_a_call()
    assert "loglevel" in reload(loglevel="Info")
    assert "DEBUG" not in lines_of_a_call()


def test_the_retries_apply_at_once(reload):
    host = reload.host
    network_id = host.engine.network_create("n")
    for tries in (2, 3):
        assert "numofretries" in reload(numofretries=tries, timeinterval=10 + tries)
        host.simulator.admin(
            "POST",
            "/faults",
            {"method": "POST", "path": "/containers$", "count": 0, "action": "503"},
        )
        refusal(reserved, host, network_id)
        assert host.simulator.admin("GET", "/faults")["faults"][0]["hits"] == tries
        host.simulator.admin("DELETE", "/faults")
        host.appliance.wait_until(
            lambda: not host.appliance.status()["components"]["vsd"]["problem"], what="the VSD"
        )


def test_credentials_apply_at_once_in_both_directions(reload):
    host = reload.host
    network_id = host.engine.network_create("n")
    line = reload(password=encode("not-the-password"))
    assert "password" in line and "not-the-password" not in line
    host.appliance.wait_until(
        lambda: "refuses user" in host.appliance.status()["components"]["vsd"]["problem"],
        what="that they are tried",
    )
    assert "refuses user 'csproot'" in refusal(reserved, host, network_id)
    reload(password=encode("csproot"))
    host.appliance.wait_until(
        lambda: not host.appliance.status()["components"]["vsd"]["problem"],
        20,
        "the log-in, without waiting for a pause of a minute to end",
    )
    _use(host, network_id)
    reload(username=encode("cmsuser"), password=encode("cmsuser"))
    host.appliance.wait_until(
        lambda: not host.appliance.status()["components"]["vsd"]["problem"], what="the log-in"
    )
    host.engine.network_create("other", {**OPTIONS, "subnet": "Subnet 1"})
    users = {one["user"] for one in host.simulator.admin("GET", "/requests")["requests"][-3:]}
    assert users == {"cmsuser"}
    text = host.appliance.log() + host.appliance.errors()
    assert "not-the-password" not in text and encode("not-the-password") not in text


def test_what_needs_a_restart_is_said(reload):
    line = reload(scope="global", plugindir=reload.host.appliance.plugins + "-other", mtu=1400)
    assert "a restart is needed for " in line
    needed = line.split("a restart is needed for ")[1]
    assert "scope" in needed and "plugindir" in needed and "mtu" not in needed
    assert reload.host.engine.network.call("NetworkDriver.GetCapabilities")["Scope"] == "local"


def test_a_log_file_that_was_renamed_or_deleted_is_made_anew_at_a_reload(reload):
    """As logrotate does without copytruncate."""
    path = Path(reload.host.appliance.settings["logfile"])
    moved = path.with_name(path.name + ".moved")
    lines = len(path.read_text().splitlines())
    path.rename(moved)
    reload(mtu=1400)
    assert "the configuration was read again; changed: mtu" in path.read_text()
    assert len(moved.read_text().splitlines()) == lines
    moved.unlink()
    path.unlink()
    reload(mtu=1300)
    assert "the configuration was read again; changed: mtu" in path.read_text()


def test_a_log_file_that_cannot_be_written_is_said_and_the_log_goes_on(reload):
    before = reload.host.appliance.settings["logfile"]
    line = reload(logfile="/proc/nowhere/nuage.log")
    assert "logfile" in line
    assert "a restart is needed" not in line
    assert "/proc/nowhere/nuage.log cannot be written" in reload.host.appliance.errors()
    assert reload.host.appliance.settings["logfile"] != before
    reload.host.engine.network_create("n")


def test_a_log_file_that_is_a_pipe_which_nobody_reads_is_said_and_not_waited_for(reload):
    path = reload.host.appliance.directory / "pipe"
    os.mkfifo(path)
    assert "changed: logfile" in reload(logfile=str(path))
    path.unlink()


def test_many_reloads_during_calls_lose_none(reload):
    host = reload.host
    network_id = host.engine.network_create("n")
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(reserved, host, network_id) for _ in range(40)]
        for _ in range(10):
            host.appliance.process.send_signal(signal.SIGHUP)
            time.sleep(0.03)
        addresses = [one.result() for one in running]
    assert len(set(addresses)) == 40
    for address in addresses:
        release(host, network_id, address)


# -- the log -------------------------------------------------------------------------------------


def test_the_log_is_rotated_at_its_size_and_five_old_files_are_kept(hosts):
    host = hosts(logfilesize=1, loglevel="Debug")
    app, mib = host.appliance, 1 << 20
    assert app.kill(signal.SIGTERM) == 0
    for number in range(1, 6):
        app.log_path.with_name(f"{app.log_path.name}.{number}").write_text(f"old {number}\n")
    app.log_path.write_text(("x" * 127 + "\n") * (mib // 128 - 8))
    host.restart()
    for _ in range(20):
        host.engine.network.call("NetworkDriver.GetCapabilities")
    names = sorted(
        path.name.removeprefix(app.log_path.name) for path in app.log_path.parent.iterdir()
    )
    assert names == ["", ".1", ".2", ".3", ".4", ".5"]
    files = {suffix: app.log_path.with_name(app.log_path.name + suffix) for suffix in names}
    assert [files[f".{number}"].read_text() for number in range(2, 6)] == [
        f"old {number}\n" for number in range(1, 5)
    ]
    assert mib * 0.9 < files[".1"].stat().st_size <= mib and files[""].stat().st_size < mib / 10
    assert stat.S_IMODE(files[""].stat().st_mode) == 0o640
    text = files[".1"].read_text() + files[""].read_text()
    numbers = [int(line.split("|")[3]) for line in text.splitlines() if line.startswith("|")]
    assert numbers == list(range(1, len(numbers) + 1)), "no line was lost between two files"


def test_a_larger_log_is_allowed_without_a_restart(hosts):
    host = hosts(logfilesize=1, loglevel="Debug")
    app = host.appliance
    assert app.kill(signal.SIGTERM) == 0
    app.log_path.write_text("x" * ((1 << 20) - 20_000) + "\n")
    host.restart()
    app.write(logfilesize=2)
    app.process.send_signal(signal.SIGHUP)
    app.wait_until(lambda: "changed: logfilesize" in app.errors(), what="the reload")
    for _ in range(300):
        host.engine.network.call("NetworkDriver.GetCapabilities")
    assert (
        app.log_path.stat().st_size > 1 << 20
        and not app.log_path.with_name(app.log_path.name + ".1").exists()
    )


# -- time ----------------------------------------------------------------------------------------


@pytest.fixture
def stepped(hosts, simulator, tmp_path):
    """A host whose wall clock can be stepped: (host, step)."""
    file = tmp_path / "offset"
    host = hosts(auditinterval=5, **launcher(file))

    def step(seconds):
        fresh = tmp_path / "fresh"
        fresh.write_text(str(seconds))
        fresh.replace(file)

    return host, step


@pytest.mark.parametrize("seconds", [_DAY_S, -_DAY_S], ids=["a day forwards", "a day backwards"])
def test_a_stepped_wall_clock_makes_no_storm_no_expiry_and_no_false_audit(
    stepped, simulator, seconds
):
    host, step = stepped
    network_id = host.engine.network_create("n")
    kept = host.engine.run("kept", network_id)
    host.wait_attached(kept)
    early = reserved(host, network_id)
    pending = host.engine.ipam.call(
        "IpamDriver.RequestPool", pool_body(options={**OPTIONS, "subnet": "Subnet 1"})
    )
    host.appliance.audit()
    before, requests = host.state(), simulator.admin("GET", "/requests")["seq"]
    asked = len(host.api.requests)
    step(seconds)
    try:
        for _ in range(4):
            outcome = host.appliance.audit()
            assert outcome["is_complete"] and outcome["repaired"] == 0, outcome
        assert host.state() == before
        seen = [
            one
            for one in simulator.admin("GET", f"/requests?since={requests}")["requests"]
            if one["method"] != "GET" or one["path"] == "/me"
        ]
        assert seen == [], "neither a log-in nor a change"
        assert (
            len(simulator.admin("GET", f"/requests?since={requests}")["requests"]) < 40
            and len(host.api.requests) - asked < 60
        )
        endpoint = host.engine.run("later", network_id)
        host.wait_attached(kept, endpoint)
        host.engine.stop(endpoint)
        release(host, network_id, early)
        host.engine.network.call(
            "NetworkDriver.CreateNetwork",
            {
                "NetworkID": "8" * 64,
                "Options": {},
                "IPv6Data": [],
                "IPv4Data": [
                    {
                        "AddressSpace": "nuage-local",
                        "Pool": pending["Pool"],
                        "Gateway": "10.21.58.1/24",
                    }
                ],
            },
        )
        assert "8" * 64 in host.appliance.status()["networks"], (
            "the request for its pool is not older than it is"
        )
        # A day that may have begun a moment ago.
        shown = {
            time.strftime("%Y-%m-%d", time.gmtime(time.time() + seconds - earlier_s))
            for earlier_s in (0, 120)
        }
        assert any(f"|{day}" in host.appliance.log() for day in shown), (
            "the log shows the wall clock, so it was really stepped"
        )
        host.api.stop()  # a new event stream begins where the old one ended, by the engine's clock
        missed = host.engine.run("missed", network_id, deliver=False)
        host.api.start()
        host.wait_attached(kept, missed)
    finally:
        step(0)
    host.engine.stop(missed)
    host.engine.stop(kept)
    host.engine.network.call("NetworkDriver.DeleteNetwork", {"NetworkID": "8" * 64})
    host.engine.ipam.call("IpamDriver.ReleasePool", {"PoolID": pending["PoolID"]})
    host.engine.network_rm(network_id)
    host.wait_clean()


def test_a_start_with_a_wrong_clock_works(hosts, tmp_path, simulator):
    """As on a machine whose clock is set after the boot."""
    for seconds in (-365 * _DAY_S, 30 * _DAY_S):
        file = tmp_path / "offset"
        file.write_text(str(seconds))
        logins = simulator.admin("GET", "/counters").get("GET /me", 0)
        host = hosts(**launcher(file))
        network_id = host.engine.network_create("n")
        endpoint = host.engine.run("c", network_id)
        host.wait_attached(endpoint)
        file.write_text("0")
        later = host.engine.run("later", network_id)
        host.wait_attached(endpoint, later)
        assert simulator.admin("GET", "/counters").get("GET /me", 0) - logins <= 3
        for one in (endpoint, later):
            host.engine.stop(one)
        host.engine.network_rm(network_id)
        host.wait_clean()


# -- a slow engine -------------------------------------------------------------------------------


def test_an_engine_that_answers_slowly_delays_the_plug_and_nothing_else(own_host):
    own_host.api.delay_s = 3.0
    try:
        network_id = own_host.engine.network_create("n")
        started = time.monotonic()
        endpoint = own_host.engine.run("c", network_id)
        assert time.monotonic() - started < 2, (
            "a call that asks the engine waits two seconds for it"
        )
        own_host.wait_attached(endpoint)
        started = time.monotonic()
        own_host.engine.stop(endpoint)
        assert time.monotonic() - started < 2
    finally:
        own_host.api.delay_s = 0.0
    own_host.engine.network_rm(network_id)
    own_host.wait_clean()


@pytest.mark.parametrize("broken", ["500", "half", "bare", "chunked half"])
def test_an_engine_whose_answers_are_broken_is_asked_again_until_the_container_is_plugged(
    own_host, broken
):
    network_id = own_host.engine.network_create("n")
    kept = own_host.engine.run("kept", network_id)
    own_host.wait_attached(kept)
    before = own_host.state()
    for path in ("/containers", "/networks", "/events"):
        own_host.api.broken[path] = broken
    own_host.api.stop()
    own_host.api.start()  # also the event stream begins anew
    endpoint = own_host.engine.run("c", network_id)
    own_host.appliance.process.send_signal(signal.SIGUSR2)
    time.sleep(0.5)
    now = own_host.state()
    assert (
        set(before["ports"]) <= set(now["ports"])
        and before["tags"] == now["tags"]
        and now["networks"] == before["networks"]
    )
    own_host.api.broken.clear()
    own_host.wait_attached(kept, endpoint)
    for one in (kept, endpoint):
        own_host.engine.stop(one)
    own_host.engine.network_rm(network_id)
    own_host.wait_clean()
