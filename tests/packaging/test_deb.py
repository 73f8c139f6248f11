"""The Debian package: what is in it, and its life on a Debian that was not booted and on one that
runs.
"""

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from nuage_lab.hosts.run import run
from tests.support.appliance import ROOT
from tests.support.systemd_root import (
    CONFIG_FILE,
    UNIT,
    USABLE,
    install,
    newer,
    running_root,
    wait_unit,
)

STATE, LOG = "/var/lib/nuage-libnetwork", "/var/log/nuage-libnetwork"
LINKS = tuple(
    f"/etc/systemd/system/{target}.wants/{UNIT}"
    for target in ("multi-user.target", "docker.service")
)


@pytest.fixture(scope="module")
def package(binary, build):
    """The package with the version of the sources."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("this machine has no dpkg-deb")
    return Path(build("scripts/buildDEB.sh")[-1])


@pytest.fixture(scope="module")
def next_package(package, tmp_path_factory):
    """The package with a higher version."""
    return newer(package, tmp_path_factory.mktemp("next"))


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    """What the package has, with its control files in DEBIAN."""
    tree = tmp_path_factory.mktemp("deb") / "tree"
    run(["dpkg-deb", "-R", package, tree])
    return tree


@pytest.fixture()
def fresh(tmp_path):
    """A Debian that was not booted."""
    with running_root(tmp_path / "root") as root:
        yield root


@pytest.fixture()
def booted(fresh):
    """A Debian that runs, without an engine."""
    fresh.boot()
    return fresh


def files(tree):
    return {
        str(path.relative_to(tree)): stat.S_IMODE(path.lstat().st_mode)
        for path in tree.rglob("*")
        if not path.is_dir()
    }


def exists(root, *paths):
    return [path for path in paths if os.path.lexists(root.path(path))]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a checkout to somebody else")
def test_its_times_are_the_commits_also_in_a_checkout_of_another_user(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("this machine has no dpkg-deb")
    checkout = tmp_path / "checkout"
    run(["git", "-c", "safe.directory=*", "clone", "-q", ROOT, checkout])
    for script in ("scripts/buildDEB.sh", "build/make-rootfs"):
        shutil.copy(ROOT / script, checkout / script)
    program = checkout / "dist" / "nuage-libnetwork"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho nuage-libnetwork 1.0\n")
    program.chmod(0o755)
    (checkout / "scripts" / "build-binary").write_text(f"#!/bin/sh\necho {program}\n")
    committed = run(["git", "-C", checkout, "log", "-1", "--format=%ct"]).stdout.strip()
    run(["chown", "-R", "65534:65534", checkout])
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("version", "SOURCE_DATE_EPOCH")
    }
    package = run([checkout / "scripts" / "buildDEB.sh"], env=environment).stdout.strip()
    run(["dpkg-deb", "-x", package, tmp_path / "tree"])
    assert (
        str(int((tmp_path / "tree" / "usr" / "bin" / "nuage-libnetwork").stat().st_mtime))
        == committed
    )


def build_by_hand(**environment):
    """Run the script with this environment added."""
    return subprocess.run(
        [str(ROOT / "scripts/buildDEB.sh"), *environment.pop("words", ())],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


# -- the file


def test_it_installs_what_the_rpm_installs_with_licences_where_debian_has_them(
    package, unpacked, tmp_path
):
    run([ROOT / "build/stage-files", tmp_path / "staged"])
    staged = {
        name: mode
        for name, mode in files(tmp_path / "staged").items()
        if not name.startswith("usr/share/licenses/")
    }
    ours = {name: mode for name, mode in files(unpacked).items() if not name.startswith("DEBIAN/")}
    assert staged.items() <= ours.items()
    rest = set(ours) - set(staged) - {"usr/share/doc/nuage-libnetwork/third-party-licences.txt.gz"}
    assert rest == {
        "usr/share/doc/nuage-libnetwork/changelog.Debian.gz",
        "usr/share/doc/nuage-libnetwork/copyright",
        "usr/share/lintian/overrides/nuage-libnetwork",
    }
    assert (
        ours["etc/default/nuage-libnetwork.yaml"] == 0o640
        and ours["usr/bin/nuage-libnetwork"] == 0o755
    )
    assert (unpacked / "usr/bin/nuage-libnetwork").read_bytes() == (
        ROOT / "dist/nuage-libnetwork"
    ).read_bytes()
    assert [
        stat.S_IMODE((unpacked / path.lstrip("/")).stat().st_mode) for path in (STATE, LOG)
    ] == [0o750, 0o750]
    listed = run(["dpkg-deb", "-c", package]).stdout.splitlines()
    assert {line.split()[1] for line in listed} == {"root/root"}


def test_its_fields_say_what_it_needs_and_which_version_it_is(package, binary):
    version = run([binary, "-version"]).stdout.split()[1]
    assert package.name == f"nuage-libnetwork_{version}-1_amd64.deb"
    fields = dict(
        line.split(": ", 1)
        for line in run(["dpkg-deb", "-f", package]).stdout.splitlines()
        if ": " in line and not line.startswith(" ")
    )
    assert (fields["Package"], fields["Version"], fields["Architecture"]) == (
        "nuage-libnetwork",
        f"{version}-1",
        "amd64",
    )
    assert (
        fields["Depends"] == "libc6 (>= 2.28), zlib1g"
        and fields["Recommends"] == "docker.io | docker-ce"
    )
    assert run(["dpkg-deb", "--info", package, "conffiles"]).stdout.split() == [CONFIG_FILE]


def test_nothing_of_the_machine_that_built_it_is_in_it(unpacked):
    words = [str(ROOT).encode(), os.uname().nodename.encode() + b".", b"/root/", b"nuage_lab"]
    for name in files(unpacked):
        if name != "usr/bin/nuage-libnetwork":  # has a test of its own
            content = (unpacked / name).read_bytes()
            assert not [word for word in words if word in content], name


def test_lintian_has_nothing_to_say_that_is_not_explained(package):
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed: run scripts/setup")
    done = run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package], timeout=120, check=False
    )
    assert done.returncode == 0 and not done.stdout.strip(), done.stdout + done.stderr


def test_every_override_is_needed_and_explained(package, unpacked):
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed: run scripts/setup")
    said = run(
        ["lintian", "--allow-root", "--no-override", package], timeout=120, check=False
    ).stdout
    lines = (unpacked / "usr/share/lintian/overrides/nuage-libnetwork").read_text().splitlines()
    assert lines[0].startswith("# ")
    unused = [
        line for line in lines if not line.startswith("#") and f" {line.split()[1]} " not in said
    ]
    assert not unused


def test_the_same_sources_make_the_same_file(package):
    before = hashlib.sha256(package.read_bytes()).hexdigest()
    done = build_by_hand(TZ="Asia/Tokyo", LANG="de_DE.UTF-8")
    assert done.returncode == 0 and done.stdout == f"{package}\n", done.stderr
    assert hashlib.sha256(package.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(
    "version", ["", "4.0R7 ", "R7", "1-2", "1:2", "1_2", "1;id", "-1", "$(id)", "1" * 65, "1\n2"]
)
def test_a_bad_version_is_refused_in_one_line(version):
    done = build_by_hand(version=version)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("scripts/buildDEB.sh: ") and len(done.stderr.splitlines()) == 1, (
        done.stderr
    )


def test_an_argument_is_refused():
    done = build_by_hand(words=("6.0.0",))
    assert (
        done.returncode == 2
        and "export version=" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_maintainer_scripts_are_plain_shell(unpacked, script):
    assert run(["sh", "-n", unpacked / "DEBIAN" / script]).returncode == 0
    assert (unpacked / "DEBIAN" / script).read_text().startswith("#!/bin/sh\n")


# -- its life on a system that was not booted, as when an image is made


def test_installed_into_an_image_it_is_enabled_and_starts_at_its_first_boot(fresh, package):
    install(fresh, package)
    assert run(fresh.command(["dpkg", "--audit"])).stdout == ""
    assert exists(fresh, *LINKS) == list(LINKS)
    assert fresh.run("dpkg", "--verify", "nuage-libnetwork").stdout == ""
    fresh.write(CONFIG_FILE, USABLE, 0o640)
    fresh.boot()
    wait_unit(fresh, ActiveState="active")


def test_an_image_keeps_a_changed_configuration_in_an_upgrade_and_nothing_in_a_purge(
    fresh, package, next_package
):
    install(fresh, package)
    fresh.write(CONFIG_FILE, USABLE, 0o640)
    fresh.write(f"{STATE}/host-id", "remembered\n")
    fresh.write(f"{LOG}/nuage-libnetwork.log", "a line\n")
    install(fresh, next_package)
    assert (
        fresh.path(CONFIG_FILE).read_text() == USABLE
        and stat.S_IMODE(fresh.path(CONFIG_FILE).stat().st_mode) == 0o640
    )
    assert "99.0-1" in fresh.run("dpkg-query", "-W", "nuage-libnetwork").stdout
    fresh.run("dpkg", "--remove", "nuage-libnetwork")
    kept = (CONFIG_FILE, f"{STATE}/host-id", f"{LOG}/nuage-libnetwork.log")
    assert exists(fresh, *kept) == list(kept) and not exists(fresh, "/usr/bin/nuage-libnetwork")
    fresh.run("dpkg", "--purge", "nuage-libnetwork")
    assert not exists(fresh, CONFIG_FILE, STATE, LOG, *LINKS, f"/etc/systemd/system/{UNIT}")
    assert not [path for path in fresh.path("/var/lib/systemd").rglob("*nuage*")]


def test_what_an_administrator_disabled_stays_disabled_in_an_upgrade(fresh, package, next_package):
    install(fresh, package)
    fresh.run("systemctl", "disable", UNIT)
    install(fresh, next_package)
    assert not exists(fresh, *LINKS)


# -- its life on a system that runs


def test_its_first_installation_succeeds_and_says_what_to_fill_in(booted, package):
    said = install(booted, package)
    assert (
        "No start of nuage-libnetwork" in said
        and f"Correct {CONFIG_FILE}, and then: systemctl restart nuage-libnetwork" in said
        and "url: the key is missing or empty" in said
    )
    found = booted.show(UNIT, "ActiveState", "UnitFileState", "NRestarts")
    assert found == {"ActiveState": "inactive", "UnitFileState": "enabled", "NRestarts": "0"}
    assert (
        booted.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "nuage-libnetwork").stdout
        == "ii "
    )
    booted.write(CONFIG_FILE, USABLE, 0o640)
    booted.run("systemctl", "restart", "nuage-libnetwork")
    assert booted.show(UNIT, "ActiveState") == "active"


def test_installed_over_a_usable_configuration_it_is_started(booted, package):
    booted.write(CONFIG_FILE, USABLE, 0o640)
    booted.put(package, "/root/package.deb")
    booted.run("dpkg", "--force-confold", "-i", "/root/package.deb")
    assert booted.show(UNIT, "ActiveState") == "active"
    assert booted.path(CONFIG_FILE).read_text() == USABLE


def test_a_policy_that_starts_no_service_is_kept_at_the_installation(booted, package):
    booted.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    booted.write(CONFIG_FILE, USABLE, 0o640)
    booted.put(package, "/root/package.deb")
    booted.run("dpkg", "--force-confold", "-i", "/root/package.deb")
    assert booted.show(UNIT, "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "enabled",
    }


def test_an_upgrade_restarts_it_once_and_a_removal_stops_it(booted, package, next_package):
    install(booted, package)
    booted.write(CONFIG_FILE, USABLE, 0o640)
    booted.run("systemctl", "start", UNIT)
    before = booted.show(UNIT, "InvocationID")
    install(booted, next_package)
    found = booted.show(UNIT, "ActiveState", "InvocationID", "NRestarts")
    assert (
        found["ActiveState"] == "active"
        and found["InvocationID"] != before
        and found["NRestarts"] == "0"
    )
    booted.run("dpkg", "--remove", "nuage-libnetwork")
    assert not booted.run("pgrep", "-x", "nuage-libnetwor", check=False).stdout
    assert not exists(
        booted, "/run/docker/plugins/nuage.sock", "/run/nuage-libnetwork", f"{STATE}/unpacked"
    ) and exists(booted, CONFIG_FILE, STATE)
    assert booted.show(UNIT, "LoadState") == "not-found"
    booted.run("dpkg", "--purge", "nuage-libnetwork")
    assert not exists(booted, CONFIG_FILE, STATE, LOG)


def test_an_upgrade_leaves_a_running_program_alone_when_the_configuration_has_become_bad(
    booted, package, next_package
):
    install(booted, package)
    booted.write(CONFIG_FILE, USABLE, 0o640)
    booted.run("systemctl", "start", UNIT)
    before = booted.show(UNIT, "InvocationID")
    booted.write(CONFIG_FILE, USABLE + "scope: galaxy\n", 0o640)
    said = install(booted, next_package)
    assert "No restart of nuage-libnetwork" in said and "scope: 'galaxy' is not known" in said
    assert booted.show(UNIT, "ActiveState", "InvocationID") == {
        "ActiveState": "active",
        "InvocationID": before,
    }


def test_an_upgrade_leaves_stopped_what_an_administrator_stopped(booted, package, next_package):
    """Another form of the program may run instead, and must not have this one beside it."""
    install(booted, package)
    booted.write(CONFIG_FILE, USABLE, 0o640)
    booted.run("systemctl", "start", UNIT)
    booted.run("systemctl", "stop", UNIT)
    install(booted, next_package)
    assert booted.show(UNIT, "ActiveState") == "inactive"


def test_a_configuration_that_was_there_before_is_closed_to_others(fresh, package):
    fresh.write(CONFIG_FILE, USABLE, 0o644)
    install(fresh, package, "--force-confold")
    assert fresh.path(CONFIG_FILE).read_text() == USABLE
    assert stat.S_IMODE(fresh.path(CONFIG_FILE).stat().st_mode) == 0o640


def test_a_purge_empties_a_log_directory_that_is_a_file_system_of_its_own(fresh, package):
    install(fresh, package)
    fresh.run("mount", "-t", "tmpfs", "tmpfs", LOG)
    fresh.write(f"{LOG}/nuage-libnetwork.log", "a line\n")
    fresh.run("dpkg", "--purge", "nuage-libnetwork")
    assert fresh.path(LOG).is_dir() and not list(fresh.path(LOG).iterdir())
    assert not exists(fresh, CONFIG_FILE, STATE) and not list(
        fresh.path("/var/lib/systemd").rglob("*nuage*")
    )
