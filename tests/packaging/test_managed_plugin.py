"""The managed plugin: made by its script, installed, set, upgraded and removed by a real engine,
whose networks it serves.
"""

import os
import stat
import time

import pytest

from nuage_lab import managed_plugin, packages
from nuage_lab.hosts.run import wait_until
from nuage_lab.registry import ADDRESS, PACKAGE, registry
from tests.support.convergence import Ping
from tests.support.in_engine import (
    ENGINE_S,
    WAIT_S,
    check_refused,
    run_script,
    running_site,
)
from tests.support.invariants import address_of, engine_endpoints, wait_ping

SCRIPT = "scripts/create-v2-plugin.sh"
NAME = managed_plugin.NAME
INSTALLED = "nuage"  # what a user types; the engine adds the tag
SOCKET = "/run/docker/plugins/nuage.sock"  # inside of the plugin


# --- what is made


def entries(directory):
    """Everything below a directory: path, kind and mode, time, and content."""
    found = []
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content = (
            os.readlink(path)
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else None
        )
        found.append(
            (str(path.relative_to(directory)), kind, status.st_mode, status.st_mtime, content)
        )
    return found


def test_two_directories_of_one_commit_are_equal(binary, tmp_path):
    for name in ("first", "second"):
        done = run_script(SCRIPT, "--directory", tmp_path / name)
        assert done.returncode == 0, done.stderr
        time.sleep(1.1)  # so that a time of day would show
    first, second = (entries(tmp_path / name / "rootfs") for name in ("first", "second"))
    assert first == second and "nuage-libnetwork" in {name for name, *_ in first}
    assert {path.name for path in (tmp_path / "first").iterdir()} == {"rootfs", "config.json"}


def test_a_directory_that_holds_other_things_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    done = run_script(SCRIPT, "--directory", tmp_path)
    assert done.returncode == 1 and "not empty" in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "name",
    [
        "Nuage",
        "weave",
        "nuage:",
        "nuage x",
        "nuage:a b",
        "nuage@sha256:0",
        "nuage\nnuage",
        "a//nuage",
        "nuage:" + "x" * 129,
        "",
    ],
)
def test_what_cannot_be_its_name_is_refused(name):
    """Also a name that the program would not know its own networks by."""
    check_refused(run_script(SCRIPT, name), SCRIPT, "no name", "begins with nuage")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--push"],
        ["nuage", "more"],
        ["--directory"],
        ["--directory", ""],
        ["--directory", "a", "b"],
    ],
)
def test_a_wrong_use_is_answered_with_the_usage(words):
    done = run_script(SCRIPT, *words)
    assert (
        done.returncode == 2 and done.stderr.startswith("usage: ") and done.stderr.count("\n") == 1
    )


def test_without_an_engine_it_says_so_before_it_makes_anything():
    done = run_script(SCRIPT, INSTALLED, DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert (
        done.returncode == 1
        and done.stderr.count("\n") == 1
        and "no engine answers" in done.stderr
        and "/nonexistent" in done.stderr
    )


# --- in an engine


@pytest.fixture(scope="module")
def site(binary, tmp_path_factory, engine_name):
    """A host whose engine has no plugin yet."""
    with running_site(tmp_path_factory.mktemp("site"), engine_name, NAME, NAME) as site:
        yield site


def plugin(site, verb, *words, check=True):
    """`docker plugin VERB`."""
    return site.host.docker("plugin", verb, *words, check=check, timeout=ENGINE_S)


def make(site, name, *words):
    """Run the script against the host's engine."""
    done = run_script(SCRIPT, *words, name, host=site.host)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture()
def installed(site):
    """The plugin as the script makes it, enabled, which serves nothing yet; its name. It stays for
    the next test.
    """
    if not plugin(site, "ls", "-q").stdout:
        make(site, INSTALLED)
    managed_plugin.enable(site.host)
    site.wait_ready()
    yield INSTALLED
    if plugin(site, "ls", "-q").stdout:
        managed_plugin.enable(site.host)
        site.wait_ready()
        site.clear()


@pytest.fixture()
def settable(site, installed):
    """The same, disabled, for a test that sets something: the next one gets another."""
    plugin(site, "disable", INSTALLED)
    yield INSTALLED
    remove(site)


def remove(site):
    """Remove the plugin, and what it serves if it can."""
    try:
        if plugin(site, "ls", "-q", "--filter", "enabled=true").stdout:
            site.clear()
    finally:
        managed_plugin.uninstall(site.host)
        site.wait_gone()


def identity(site):
    return plugin(site, "inspect", "-f", "{{.Id}}", INSTALLED).stdout.strip()


def test_the_networks_of_its_name_are_served_and_both_logs_tell_of_it(site, installed):
    site.serve()
    sentence = f"serves {SOCKET}"
    assert [line for line in site.log().splitlines() if line.endswith(sentence)], (
        "it serves one socket, whatever the configuration says"
    )
    lines = wait_until(
        lambda: [line for line in site.engine_log().splitlines() if sentence in line],
        WAIT_S,
        "the line in the engine's log",
    )
    assert f"plugin={identity(site)}" in lines[-1]


def test_it_has_one_capability_more_than_any_container_and_sees_no_more_of_the_host_than_it_needs(
    site, installed
):
    pid = site.processes()[0]
    privileges = plugin(site, "inspect", "-f", "{{json .Config.Linux}}", INSTALLED).stdout
    assert (
        '"Capabilities":["CAP_NET_ADMIN"]' in privileges and '"AllowAllDevices":false' in privileges
    )
    mounts = [
        line.split() for line in site.host.path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    ]
    binds = {
        words[4]: words[5].split(",")[0]
        for words in mounts
        if words[4].startswith(("/run", "/etc", "/var"))
    }
    assert binds == {
        "/run": "rw",
        "/run/docker/plugins": "rw",
        "/etc/default": "ro",
        "/etc/hosts": "ro",
        "/etc/resolv.conf": "ro",
        "/var/lib/nuage-libnetwork": "rw",
        "/var/log/nuage-libnetwork": "rw",
    }


def test_it_is_not_made_twice_under_one_name_but_two_tags_of_one_build_are(
    any_engine, site, installed
):
    done = run_script(SCRIPT, INSTALLED, host=site.host)
    assert (
        done.returncode == 1
        and "already" in done.stderr
        and "docker plugin rm nuage" in done.stderr
        and done.stderr.count("\n") == 1
    )
    make(site, "nuage:other")
    plugin(site, "rm", "nuage:other")


def test_it_stays_while_it_is_in_use_and_goes_when_it_is_not(any_engine, site, installed):
    site.create_network()
    for verb in ("disable", "rm"):
        done = plugin(site, verb, INSTALLED, check=False)
        assert done.returncode != 0 and ("in use" in done.stderr or "is enabled" in done.stderr), (
            done.stderr
        )
    site.clear()
    plugin(site, "disable", INSTALLED)
    plugin(site, "rm", INSTALLED)
    assert plugin(site, "ls", "-q").stdout == ""
    site.wait_gone()


def test_what_runs_outlives_a_disabled_plugin_which_then_goes_on_where_it_was(site, installed):
    address = site.serve()
    before = engine_endpoints(site.host)
    with Ping(site.host, "web", address) as ping:
        plugin(site, "disable", "--force", INSTALLED)
        site.wait_gone()
        plugin(site, "enable", INSTALLED)
        site.wait_ready()
        sent, lost = ping.end()
    assert sent > 5 and lost == [], ping.said
    assert engine_endpoints(site.host) == before
    site.attach("next")
    site.wait_agreement()


def test_its_log_level_configuration_and_directories_can_be_set(any_engine, site, settable):
    for directory in ("/var/lib/elsewhere", "/var/log/elsewhere"):
        site.host.path(directory).mkdir(exist_ok=True)
    elsewhere = site.host.path("/var/lib/elsewhere")
    usual = site.host.path("/etc/default")
    (elsewhere / "nuage-vsd-ca.pem").write_bytes((usual / "nuage-vsd-ca.pem").read_bytes())
    (elsewhere / "other.yaml").write_bytes(
        (usual / "nuage-libnetwork.yaml")
        .read_bytes()
        .replace(b"loglevel: Debug", b"loglevel: Error")
    )
    plugin(
        site,
        "set",
        INSTALLED,
        "CONFIG=/etc/default/other.yaml",
        "LOGLEVEL=Info",
        "config.source=/var/lib/elsewhere",
        "log.source=/var/log/elsewhere",
    )
    plugin(site, "enable", INSTALLED)
    site.wait_ready()
    text = site.host.path("/var/log/elsewhere/nuage-libnetwork.log").read_text()
    assert "|INFO|" in text and "|DEBUG|" not in text
    # A reload, too: what is set overrules the file until it is set anew.
    site.host.exec(["kill", "-HUP", str(site.processes()[0])])
    log = site.host.path("/var/log/elsewhere/nuage-libnetwork.log")
    wait_until(lambda: "was read again; changed: nothing" in log.read_text(), WAIT_S, "the reload")


def test_a_wrong_setting_is_told_in_the_engines_log_and_can_be_corrected(
    any_engine, site, settable
):
    plugin(site, "set", INSTALLED, "LOGLEVEL=loud")
    begin = len(site.engine_log().encode())
    assert plugin(site, "enable", INSTALLED, check=False).returncode != 0  # after 12 s
    told = [
        line for line in site.engine_log(begin).splitlines() if f"plugin={identity(site)}" in line
    ]
    assert (
        len(told) == 1
        and "LOGLEVEL: 'loud' is not known; it must be one of debug, info, warn, error" in told[0]
    ), told
    site.wait_gone()
    plugin(site, "set", INSTALLED, "LOGLEVEL=")
    plugin(site, "enable", INSTALLED)
    site.wait_ready()


def test_what_is_not_to_be_set_cannot_be(any_engine, site, settable):
    for setting in ("NUAGE_MANAGED_PLUGIN=no", "run.destination=/other", "unknown=1"):
        done = plugin(site, "set", INSTALLED, setting, check=False)
        assert done.returncode != 0 and (
            "not settable" in done.stderr or "not found" in done.stderr
        ), done.stderr


# --- the engine ends and starts


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_an_engine_starts_its_plugin_first_and_then_waits_for_nothing(site, installed, how):
    site.serve()
    site.attach("auto", "--restart", "always")
    site.wait_agreement()
    begin = site.end_engine(how)
    site.host.engine.start()
    site.wait_ready()
    assert "Unable to locate plugin" not in site.engine_log(begin)
    wait_until(
        lambda: {name for _, name, *_ in engine_endpoints(site.host)} == {"auto"},
        WAIT_S,
        "what is always restarted runs, and nothing else",
    )
    site.host.docker("start", "web", "db")
    site.wait_agreement()
    wait_ping(site.host, "auto", address_of(site.host, "db", "net"))


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_with_live_restore_the_plugin_and_its_containers_outlive_the_engine(site, installed, how):
    site.set_live_restore(True)
    try:
        site.outlive_engine(how)
    finally:
        site.set_live_restore(False)


# --- from a registry


@pytest.fixture()
def pushed(site):
    """A registry on the host's loopback that has two tags of the plugin, pushed by the script;
    their names.
    """
    if not packages.place(*PACKAGE).is_dir():
        pytest.skip("docker-registry is not fetched: run scripts/lab fetch")
    managed_plugin.uninstall(site.host)
    server = registry(site.host)
    server.start()
    names = [f"{ADDRESS}/nuage:{tag}" for tag in ("1", "2")]
    for name in names:
        make(site, name, "--push")
        plugin(site, "rm", name)
    yield names
    remove(site)
    server.stop()


def test_an_upgrade_keeps_settings_networks_and_what_runs(site, pushed):
    first, second = pushed
    plugin(site, "install", "--grant-all-permissions", "--alias", "nuage", first, "LOGLEVEL=Info")
    site.wait_ready()
    address = site.serve()
    before, ident = engine_endpoints(site.host), identity(site)
    with Ping(site.host, "web", address) as ping:
        plugin(site, "disable", "--force", INSTALLED)
        plugin(site, "upgrade", "--grant-all-permissions", "--skip-remote-check", INSTALLED, second)
        plugin(site, "enable", INSTALLED)
        site.wait_ready()
        sent, lost = ping.end()
    assert sent > 5 and lost == [], ping.said
    shown = plugin(
        site, "inspect", "-f", "{{.PluginReference}} {{json .Settings.Env}}", INSTALLED
    ).stdout
    assert shown.startswith(second) and '"LOGLEVEL=Info"' in shown and identity(site) == ident
    assert engine_endpoints(site.host) == before
    site.host.docker("rm", "-f", "db")
    site.attach("next")
    site.wait_agreement()
