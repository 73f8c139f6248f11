"""The image: what is in nuage-plugin.tar, and the appliance as a container of the engine that it
serves.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from nuage_lab.hosts.run import wait_until
from tests.support.convergence import Ping
from tests.support.frozen import UNPACKED, age
from tests.support.in_engine import (
    CONFIG,
    ENGINE_S,
    WAIT_S,
    check_refused,
    run_script,
    running_site,
)
from tests.support.invariants import address_of, engine_endpoints, wait_ping
from tests.support.lab import is_ready

SCRIPT = "scripts/create-docker-image.sh"
MOST_BYTES = 30_000_000
# The README's lines. The first is the seed's own.
AS_TYPED = (
    "docker run -v /usr/bin/:/usr/bin/ -v /usr/lib64/:/usr/lib64 -v /var/run:/var/run -v "
    "/var/log:/var/log -v /etc/default:/etc/default "
    "--net=host --privileged -dt nuage-plugin:{tag}"
)
SMALLER = (
    "docker run -d --name nuage --restart always --net host --read-only --cap-drop ALL "
    "--cap-add NET_ADMIN --cap-add DAC_OVERRIDE --security-opt no-new-privileges "
    "-v /run:/run -v /etc/default:/etc/default:ro -v "
    "/var/lib/nuage-libnetwork:/var/lib/nuage-libnetwork "
    "-v /var/log/nuage-libnetwork:/var/log/nuage-libnetwork nuage-plugin:{tag}"
)
QUICK_CHECKS = ("--health-interval", "2s", "--health-retries", "1")
NAMED_INSTEAD = [
    "--cap-add",
    "ALL",
    "--cap-drop",
    "SYS_RESOURCE",
    "--security-opt",
    "seccomp=unconfined",
]
# capabilities(7), as linux/capability.h numbers them.
DAC_OVERRIDE, NET_ADMIN, SYS_RESOURCE = (
    1,
    12,
    24,
)


def make_archive(directory, **environment):
    """Make nuage-plugin.tar in a directory."""
    done = run_script(SCRIPT, directory=directory, **environment)
    assert done.returncode == 0, done.stderr
    return directory / "nuage-plugin.tar"


@pytest.fixture(scope="module")
def archive(binary, tmp_path_factory):
    """nuage-plugin.tar, made in a directory of its own."""
    return make_archive(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def tag(binary):
    """The tag that the image gets when nobody says one: the program's version."""
    return subprocess.run(
        [binary, "-version"], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout.split()[1]


# --- what is in it


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_the_archive_is_an_image_of_one_layer_whose_digests_are_true(archive, tag):
    assert archive.stat().st_size <= MOST_BYTES
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        config = tar.extractfile(manifest["Config"]).read()
        layers = [tar.extractfile(name).read() for name in manifest["Layers"]]
    assert (
        manifest["RepoTags"] == [f"nuage-plugin:{tag}"]
        and manifest["Config"] == f"{digest(config)}.json"
    )
    image = json.loads(config)
    assert (
        image["rootfs"]["diff_ids"] == [f"sha256:{digest(layer)}" for layer in layers]
        and len(layers) == 1
    )
    assert image["config"]["Entrypoint"] + image["config"]["Cmd"] == [
        "/nuage-libnetwork",
        "-config",
        CONFIG,
    ]
    assert (
        image["config"]["StopSignal"] == "SIGTERM"
        and "-health" in image["config"]["Healthcheck"]["Test"]
    )
    assert image["config"]["Labels"]["org.opencontainers.image.version"] == tag


def test_the_layer_holds_nothing_where_a_hosts_own_directories_are_mounted(archive, binary):
    """The seed's line mounts the host's /usr/bin and /usr/lib64 over the image's."""
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        content = io.BytesIO(tar.extractfile(manifest["Layers"][0]).read())
    with tarfile.open(fileobj=content) as layer:
        entries = {entry.name: entry for entry in layer}
        program = layer.extractfile("nuage-libnetwork").read()
    assert entries["nuage-libnetwork"].mode == 0o755
    assert program == binary.read_bytes()
    assert entries["lib64"].isdir() and entries["lib64/ld-linux-x86-64.so.2"].isreg()
    assert (entries["var/run"].issym(), entries["var/run"].linkname) == (True, "/run")
    assert not [
        name
        for name in entries
        if name.startswith(
            ("usr/bin/", "usr/lib64/", "etc/default/", "run/", "var/log/nuage-libnetwork/")
        )
    ]
    assert not [
        name
        for name, entry in entries.items()
        if (entry.uid, entry.gid) != (0, 0)
        or entry.uname
        or (entry.mode & 0o6002 and name != "tmp" and not entry.issym())
    ]
    assert "usr/share/doc/nuage-libnetwork/third-party-licences.txt" in entries


def test_two_archives_of_one_commit_are_the_same_file(archive, tmp_path):
    time.sleep(1.1)  # so that a time of day would show
    assert digest(make_archive(tmp_path).read_bytes()) == digest(archive.read_bytes())


def test_the_tag_is_the_variable_version(archive, tag, tmp_path):
    """Any other version would have the program built anew; that it tells it is the binary's own
    promise.
    """
    assert digest(make_archive(tmp_path, version=tag).read_bytes()) == digest(archive.read_bytes())


@pytest.mark.parametrize("wrong", ["-x", ".x", "a b", "a/b", "a:b", "6+1", "é", "x" * 129, "a\nb"])
def test_what_cannot_be_a_tag_is_refused_and_nothing_is_made(wrong, tmp_path):
    done = run_script(SCRIPT, directory=tmp_path, version=wrong)
    check_refused(done, SCRIPT, "no tag", "128 letters")
    assert not list(tmp_path.iterdir())


def test_a_directory_in_its_place_is_told_before_anything_is_made(tmp_path):
    (tmp_path / "nuage-plugin.tar").mkdir()
    done = run_script(SCRIPT, directory=tmp_path)
    assert (
        done.returncode == 1
        and done.stdout == ""
        and done.stderr.count("\n") == 1
        and f"cannot be written in {tmp_path}" in done.stderr
    )
    assert not list((tmp_path / "nuage-plugin.tar").iterdir())


def test_arguments_are_refused(tmp_path):
    check_refused(
        run_script(SCRIPT, "4.0R7", directory=tmp_path), SCRIPT, "takes no arguments", "'4.0R7'"
    )
    assert not list(tmp_path.iterdir())


# --- the appliance in a container


@pytest.fixture(scope="module")
def site(archive, tmp_path_factory, engine_name):
    """A host whose engine has the image and no container."""
    with running_site(tmp_path_factory.mktemp("site"), engine_name, "nuage", "nuage-ipam") as site:
        inside = site.host.path("/tmp/nuage-plugin.tar")
        inside.write_bytes(archive.read_bytes())
        # The engine's client of another release sees the host's /tmp too.
        site.loaded = site.host.docker("load", "-i", "/tmp/nuage-plugin.tar").stdout
        yield site


def run_line(site, line, tag, *words):
    """Run a line of the README, with further options; returns the container's id."""
    _, verb, *rest = line.format(tag=tag).split()
    done = site.host.docker(verb, *words, *rest, check=False)
    if done.returncode and "--privileged" in rest:
        bounding = next(
            line.split()[1]
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("CapBnd")
        )
        # Else the machine is no reason.
        assert not int(bounding, 16) >> SYS_RESOURCE & 1, done.stderr
        print(
            "this machine lacks CAP_SYS_RESOURCE, so its engine refuses --privileged; the "
            "same line is run with every other capability named"
        )
        site.host.docker(
            "rm", *site.host.docker("ps", "-aq", "--filter", "status=created").stdout.split()
        )
        at = rest.index("--privileged")
        done = site.host.docker(
            verb, *words, *rest[:at], *NAMED_INSTEAD, *rest[at + 1 :], check=False
        )
    assert done.returncode == 0, done.stderr
    site.wait_ready()
    return done.stdout.strip()


def remove(site, container):
    """Remove the appliance after all that it serves."""
    try:
        site.clear()
    finally:
        site.host.docker("rm", "-f", container)
        site.wait_gone()


@pytest.fixture()
def typed(site, tag):
    """The appliance as the seed's line starts it."""
    container = run_line(site, AS_TYPED, tag)
    yield container
    remove(site, container)


@pytest.fixture()
def appliance(site, tag):
    """The appliance as the smaller line starts it, looked after more often; the name of its
    container.
    """
    run_line(site, SMALLER, tag, *QUICK_CHECKS)
    yield "nuage"
    remove(site, "nuage")


def state(site, container, what):
    """One word of `docker inspect`."""
    return site.host.docker("inspect", "-f", f"{{{{.State.{what}}}}}", container).stdout.strip()


def wait_health(site, container, wanted):
    wait_until(
        lambda: state(site, container, "Health.Status") == wanted,
        WAIT_S,
        f"the container is {wanted}",
        pause=0.5,
    )


def test_the_image_is_loaded_and_the_line_of_the_seed_serves_the_engine_that_runs_it(
    site, tag, typed
):
    assert f"Loaded image: nuage-plugin:{tag}" in site.loaded
    site.serve()


def test_the_smaller_line_serves_with_two_capabilities_and_a_root_that_cannot_be_written(
    site, appliance
):
    site.serve()
    for pid in site.processes():
        status = dict(
            line.split(":\t")
            for line in site.host.path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("Cap")
        )
        assert (
            int(status["CapEff"], 16)
            == int(status["CapBnd"], 16)
            == 1 << NET_ADMIN | 1 << DAC_OVERRIDE
        )
    assert site.host.docker("diff", appliance).stdout == ""


def test_the_smaller_line_reaches_a_vrs_that_runs_as_a_user_of_its_own(any_engine, site, appliance):
    database = "/run/openvswitch/db.sock"
    site.host.exec(["chown", "998:998", database])
    site.host.exec(["chmod", "0750", database])
    try:
        site.host.docker("restart", appliance)
        site.wait_ready()
    finally:
        site.host.exec(["chown", "0:0", database])


def test_a_restart_of_the_appliance_loses_no_packet_of_running_containers(
    any_engine, site, appliance
):
    address = site.serve()
    before = engine_endpoints(site.host)
    with Ping(site.host, "web", address) as ping:
        site.host.docker("restart", appliance)
        site.wait_ready()
        sent, lost = ping.end()
    assert sent > 5 and lost == [], ping.said
    assert engine_endpoints(site.host) == before
    site.attach("next")
    site.wait_agreement()


def test_the_health_check_knows_an_appliance_that_hangs_from_a_vsd_that_is_away(
    any_engine, site, appliance
):
    wait_health(site, appliance, "healthy")
    site.lab.vsd.stop()
    try:
        site.host.docker("kill", "-s", "USR2", appliance)  # the audit asks the VSD
        wait_until(
            lambda: not is_ready(site.host), WAIT_S, "the appliance misses the VSD", pause=0.5
        )
        done = site.host.docker(
            "exec", appliance, "/nuage-libnetwork", "-health", "-config", CONFIG
        )
        assert "it has problems: vsd: " in done.stdout
        time.sleep(5)  # two checks more
        assert state(site, appliance, "Health.Status") == "healthy"
    finally:
        site.lab.vsd.start()
    pids = list(map(str, site.processes()))
    site.host.exec(["kill", "-STOP", *pids])
    try:
        wait_health(site, appliance, "unhealthy")
        (*_, last) = json.loads(
            site.host.docker("inspect", "-f", "{{json .State.Health.Log}}", appliance).stdout
        )
        assert (
            last["ExitCode"] == 1
            and "not healthy" in last["Output"]
            and last["Output"].count("\n") == 1
        )
    finally:
        site.host.exec(["kill", "-CONT", *pids])
    wait_health(site, appliance, "healthy")
    site.wait_ready()


def test_signals_of_docker_kill_reach_the_program_once_and_stop_ends_it_in_order(
    any_engine, site, appliance
):
    def count(words):
        return site.log().count(words)

    reloads = count("the configuration was read again")
    site.configure(auditinterval=3600)
    audits = count("audit: ")
    site.host.docker("kill", "-s", "USR1", appliance)
    wait_until(
        lambda: count("audit: ") > audits, WAIT_S, "the audit that the new interval begins with"
    )
    time.sleep(0.5)
    audits = count("audit: ")
    site.host.docker("kill", "-s", "USR2", appliance)
    wait_until(lambda: count("audit: ") == audits + 1, WAIT_S, "the audit that was asked for")
    time.sleep(0.5)
    assert (count("the configuration was read again"), count("audit: ")) == (
        reloads + 1,
        audits + 1,
    )
    site.host.docker("stop", appliance)
    assert state(site, appliance, "ExitCode") == "0"
    assert not list(site.host.path("/run/docker/plugins").glob("nuage*"))
    site.configure()
    site.host.docker("start", appliance)
    site.wait_ready()


def test_what_a_killed_appliance_had_unpacked_does_not_pile_up_in_its_container(
    any_engine, site, typed
):
    def unpacked():
        pid = state(site, typed, "Pid")
        return site.host.path(f"/proc/{pid}/root{UNPACKED}")

    for _ in range(3):
        for directory in unpacked().iterdir():
            age(directory, 60)
        site.host.docker("kill", "-s", "KILL", typed)
        assert state(site, typed, "ExitCode") == "137"
        site.host.docker("start", typed)
        site.wait_ready()
        assert len(list(unpacked().iterdir())) == 1


@pytest.mark.parametrize("which", [0, 1], ids=["loader", "program"])
def test_the_engine_starts_an_appliance_again_of_which_a_process_was_killed(
    any_engine, site, appliance, which
):
    address = site.serve()
    before = site.processes()
    site.host.exec(["kill", "-KILL", str(before[which])])
    wait_until(
        lambda: (now := site.processes()) and not set(now) & set(before),
        WAIT_S,
        "other processes serve",
        pause=0.2,
    )
    site.wait_ready()
    site.wait_agreement()
    wait_ping(site.host, "web", address)


def test_the_mount_of_run_holds_no_removed_containers_network_namespace_for_long(
    long_tests, any_engine, site, appliance
):
    """The mounts below /run are copied into the appliance's container when it starts; the engine
    removes their places once a minute.
    """
    site.serve()
    site.host.docker("restart", appliance)
    site.wait_ready()
    place = (
        site.host.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "web")
        .stdout.strip()
        .removeprefix("/var")
    )
    mounts = site.host.path(f"/proc/{state(site, appliance, 'Pid')}/mountinfo")
    assert place in mounts.read_text(), "nothing is copied, so nothing can be held"
    site.host.docker("rm", "-f", "web")
    wait_until(
        lambda: place not in mounts.read_text(), ENGINE_S, "the namespace is let go", pause=1.0
    )


# --- the engine ends and starts, and the driver that it needs is one of its containers


@pytest.fixture()
def live_restore(site):
    """Containers outlive their engine."""
    site.set_live_restore(True)
    yield
    site.set_live_restore(False)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_with_live_restore_the_appliance_outlives_its_engine_which_then_waits_for_nothing(
    site, live_restore, appliance, how
):
    site.outlive_engine(how)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_without_live_restore_the_engine_waits_for_its_own_container_and_all_comes_back(
    long_tests, site, appliance, how
):
    """What docs/OPERATIONS.md warns of: 15 s for the network, and for each container that was on
    it.
    """
    site.serve()
    site.attach("auto", "--restart", "always")
    site.wait_agreement()
    began = time.monotonic()
    begin = site.end_engine(how)
    ended = time.monotonic()
    site.host.engine.start()
    print(
        f"the engine took {ended - began:.1f} s to be {how} and "
        f"{time.monotonic() - ended:.1f} s to start with one network and three containers"
    )
    assert "Unable to locate plugin" in site.engine_log(begin), (
        "it did not wait; then the documents are wrong"
    )
    site.wait_ready()
    wait_until(
        lambda: state(site, "auto", "Running") == "true",
        WAIT_S,
        "the container that is always restarted runs",
        pause=0.5,
    )
    assert (
        site.host.docker("network", "inspect", "-f", "{{.Driver}}", "net").stdout.strip() == "nuage"
    )
    site.host.docker("start", "web", "db", timeout=ENGINE_S)
    site.wait_agreement(300)
    wait_ping(site.host, "auto", address_of(site.host, "db", "net"))
