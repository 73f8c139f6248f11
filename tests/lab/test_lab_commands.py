"""scripts/lab as one types it: what it refuses, in which words, and that nothing changes then."""

import subprocess
import sys
from pathlib import Path

import pytest

from nuage_lab import packages
from nuage_lab.hosts.run import wait_until
from nuage_lab.lab import CONFIG_FILE
from tests.support import lab as support

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One host with its appliance."""
    with support.running_lab(tmp_path_factory.mktemp("commands")) as lab:
        yield lab


def run(lab, *words):
    """Run scripts/lab's program on a lab; returns the CompletedProcess."""
    options = ("--state", lab.state, "--prefix", lab.place.prefix)
    return subprocess.run(
        [sys.executable, "-m", "nuage_lab", *map(str, (*options, *words))],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "words, text",
    [
        (["exec", "h9", "--", "true"], "this lab has no host h9; it has infra, h1"),
        (["logs", "h7"], "there are no logs of h7; there are logs of h1, infra"),
        (["logs", "../log/h1"], "there are no logs of ../log/h1"),
        (["logs", "h1", "appliancee"], "h1 has no log named appliancee; it has appliance, "),
        (["vsd", "tree", "Nope"], "the VSD has no 'Nope' there; it has CSP, Enterprise"),
        (["vsd", "tree", "Enterprise/Domain/Nope"], "the VSD has no 'Nope' there; it has "),
        (["vsd", "post", "/events", "{"], "the body is not JSON"),
        (["configure", "h9", "scope=global"], "this lab has no host h9"),
        (["configure", "infra"], "infra has no appliance"),
        (["configure", "h1", "scope"], "'scope' is not KEY=VALUE"),
        (["faults", "h2"], "this lab has no host h2"),
        (["up", "--engine", "26"], "this lab is up with the default engine, not 26"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_an_error(running, words, text):
    before = running.status()
    done = run(running, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"scripts/lab: {text}") and done.stderr.count("\n") == 1
    assert running.status() == before


def test_another_engine_is_refused_before_it_is_made(running, monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    with pytest.raises(support.LabError, match="take it down first"):
        running.up(1, engine="26")
    assert not (tmp_path / "cache").exists()


def test_a_part_of_the_tree_can_be_shown(running):
    done = run(running, "vsd", "tree", "Enterprise/Domain/Zone/Subnet 2")
    assert done.returncode == 0
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("enterprise 'Enterprise'")
    assert last.strip().startswith("subnet 'Subnet 2' address=10.21.59.0")
    assert "Subnet 1" not in done.stdout


# -- configure


def configuration(host):
    return host.path(CONFIG_FILE).read_text()


@pytest.fixture
def h1(running):
    host = running.host("h1")
    yield host
    assert run(running, "configure", "h1").returncode == 0


def test_a_wrong_value_is_refused_and_the_appliance_goes_on(running, h1):
    before = configuration(h1), h1.appliance.pid()
    done = run(running, "configure", "h1", "scope=wide")
    assert done.returncode == 1
    assert "h1 keeps its configuration: " in done.stderr and "'wide'" in done.stderr
    assert f"{CONFIG_FILE}.new" not in done.stderr and done.stderr.count("\n") == 1
    assert (configuration(h1), h1.appliance.pid()) == before
    assert not h1.path(f"{CONFIG_FILE}.new").exists()


def test_an_unknown_key_is_warned_about_at_once(running, h1):
    done = run(running, "configure", "h1", "scop=global")
    assert done.returncode == 0 and "'scop' is not known" in done.stderr


def test_every_key_can_be_left_out_and_values_have_types(running, h1):
    done = run(running, "configure", "h1", "cafile=", "tlsverify=false", "auditinterval=5")
    assert done.returncode == 0, done.stderr
    text = configuration(h1)
    assert "cafile" not in text and "tlsverify: false" in text and "auditinterval: 5" in text
    wait_until(lambda: support.is_ready(h1), 60.0, "the appliance reaches its VSD")


# -- what hosts are


def test_a_hosts_kernel_passes_packets_on_as_docker_hosts_do(running):
    setting = running.host("h1").exec(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout
    assert setting.strip() == "1"
    assert "forwarding is disabled" not in running.host("h1").docker("info").stderr


def test_a_page_names_the_container_it_comes_from_and_stop_ends_it_at_once(running):
    host = running.host("h1")
    host.docker(
        "run",
        "-d",
        "--name",
        "web",
        "--hostname",
        "web-1",
        "--net",
        "none",
        "nuage-lab/busybox",
        "serve",
    )
    try:
        page = wait_until(
            lambda: (
                host.docker("exec", "web", "wget", "-qO-", "http://127.0.0.1/", check=False).stdout
            ),
            60.0,
            "the page is there",
        )
        assert page.startswith("This page comes from web-1, ")
        host.docker("stop", "--time", "60", "web", timeout=50.0)
        assert host.docker("inspect", "-f", "{{.State.ExitCode}}", "web").stdout.strip() == "0"
    finally:
        host.docker("rm", "-f", "web")


# -- a lab that is down


def test_a_lab_that_is_down_says_so(tmp_path):
    lab = support.new_lab(tmp_path)
    for words in (
        ["exec", "h1", "--", "true"],
        ["heal"],
        ["page"],
        ["kill", "h1"],
        ["partition", "h1", "h2"],
        ["configure", "h1"],
        ["faults", "h1"],
        ["vsd", "tree"],
    ):
        done = run(lab, *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert done.stderr == "scripts/lab: the lab is down; `scripts/lab up` starts it\n", words
    done = run(lab, "status")
    assert done.returncode == 0
    assert done.stdout.endswith("the lab is down; `scripts/lab up` starts it\n")
    assert run(lab, "logs", "h1").returncode == 1


def test_a_full_disk_is_named(tmp_path):
    """In a mount namespace of its own: a state directory that takes a megabyte."""
    reason = support.why_not()
    if reason:
        pytest.skip(reason)
    lab = support.new_lab(tmp_path)
    program = f'"{sys.executable}" -m nuage_lab --state "{tmp_path}" --prefix {lab.place.prefix}'
    command = (
        f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}"; '
        f'head -c 2m /dev/zero >"{tmp_path}/ballast"; '
        f"{program} up; status=$?; {program} down; exit $status"
    )
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", command],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert "No space left on device" in done.stderr and str(tmp_path) in done.stderr
        assert "make room there" in done.stderr and "Traceback" not in done.stderr
    finally:
        lab.down()
    support.check_clean(lab)
