"""The RPM: what is in it, and what happens when real rpm and dnf install, upgrade and erase it in a
root of its own.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.appliance import PATIENCE_S, ROOT
from tests.support.rpm import (
    CONFIG,
    GO_SAMPLE,
    GO_SCRIPTS,
    GO_UNIT,
    GO_UNIT_FILE,
    UNIT,
    Root,
    go_plugin,
    query,
    run,
    unpack,
)

WANTED = "etc/systemd/system/multi-user.target.wants/nuage-libnetwork.service"
FILES = {
    f"/{CONFIG}": 0o640,
    "/usr/bin/nuage-libnetwork": 0o755,
    f"/{UNIT}": 0o644,
    "/usr/lib/systemd/system-preset/80-nuage-libnetwork.preset": 0o644,
    "/usr/share/bash-completion/completions/nuage-libnetwork": 0o644,
    "/usr/share/man/man8/nuage-libnetwork.8.gz": 0o644,
    "/usr/share/doc/nuage-libnetwork": 0o755,
    "/usr/share/doc/nuage-libnetwork/OPERATIONS.md": 0o644,
    "/usr/share/doc/nuage-libnetwork/MULTIHOST.md": 0o644,
    "/usr/share/licenses/nuage-libnetwork": 0o755,
    "/usr/share/licenses/nuage-libnetwork/LICENSE": 0o644,
    "/usr/share/licenses/nuage-libnetwork/NOTICE": 0o644,
    "/usr/share/licenses/nuage-libnetwork/third-party-licences.txt": 0o644,
    "/var/lib/nuage-libnetwork": 0o750,
    "/var/log/nuage-libnetwork": 0o750,
}
# Usable, and warned about.
EDITED = (
    "url: https://vsd.example.com:8443\nusername: Y3Nwcm9vdA==\npassword: Y3Nwcm9vdA==\n"
    "organization: Y3Nw\ntlsverify: false\n"
)
UNIT_FOUND = "daemon-reload"
ENABLED = "--no-reload preset nuage-libnetwork.service"
RESTARTED = "try-restart nuage-libnetwork.service"
DISABLED = "--no-reload disable --now nuage-libnetwork.service"


@pytest.fixture()
def root(base_rpm, binary, tmp_path):
    """An empty system on which systemd runs."""
    return Root(tmp_path / "root", base_rpm, binary)


# --- what is in it


def test_the_package_has_the_name_that_the_seed_promises(rpm_package, binary):
    version = run(binary, "-version").split()[1]
    assert rpm_package == f"{ROOT}/rpmbuild/RPMS/x86_64/nuage-libnetwork-{version}-1.x86_64.rpm"
    assert query(rpm_package, "--qf", "%{NAME} %{VERSION} %{RELEASE} %{ARCH}\\n") == [
        f"nuage-libnetwork {version} 1 x86_64"
    ]


def test_every_file_is_root_s_and_has_its_mode(rpm_package):
    rows = [
        line.split()
        for line in query(
            rpm_package,
            "--qf",
            "[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME} %{FILEGROUPNAME}\\n]",
        )
    ]
    expected = dict(FILES)
    if not (ROOT / "dist" / "third-party-licences.txt").exists():
        del expected["/usr/share/licenses/nuage-libnetwork/third-party-licences.txt"]
    assert {name: int(mode, 8) & 0o7777 for name, mode, _, _ in rows} == expected
    assert {(user, group) for _, _, user, group in rows} == {("root", "root")}


def test_the_program_in_the_package_is_the_one_that_was_built_byte_for_byte(
    rpm_package, binary, tmp_path
):
    files = unpack(rpm_package, tmp_path / "files")
    assert (files / "usr/bin/nuage-libnetwork").read_bytes() == binary.read_bytes()
    assert (files / UNIT).read_bytes() == (
        ROOT / "rpmbuild" / "nuage-libnetwork.service"
    ).read_bytes()


def test_the_configuration_is_kept_and_licence_and_documents_are_marked(rpm_package):
    flags = dict(
        line.split()
        for line in query(rpm_package, "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}-\\n]")
    )
    assert flags[f"/{CONFIG}"] == "cn-"
    assert (
        flags["/usr/share/licenses/nuage-libnetwork/NOTICE"]
        == flags["/usr/share/licenses/nuage-libnetwork/LICENSE"]
        == "l-"
    )
    assert flags["/usr/share/doc/nuage-libnetwork/OPERATIONS.md"] == "d-"


def test_the_package_says_which_c_library_it_needs_and_wants_nothing_that_rhel_8_lacks(
    rpm_package, root
):
    needs = query(rpm_package, "--requires")
    assert "glibc >= 2.28" in needs and "zlib" in needs
    assert "Failed dependencies" not in root.rpm("-i", "--test", rpm_package)


def test_no_macro_of_the_build_is_left_in_the_scripts(rpm_package):
    scripts = "\n".join(query(rpm_package, "--scripts"))
    assert scripts.count("scriptlet (using /bin/sh)") == 5
    assert "%" not in scripts


def test_the_packages_tell_neither_the_machine_nor_the_place_where_they_were_built(rpm_packages):
    for path in rpm_packages:
        assert str(ROOT) not in "\n".join(query(path, "--xml"))
        assert query(path, "--qf", "%{BUILDHOST} %{VENDOR} %{PACKAGER}") == [
            "localhost (none) (none)"
        ]


def test_two_builds_of_one_commit_are_the_same_byte_for_byte(rpm_packages):
    def sums():
        return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in rpm_packages]

    before = sums()
    assert run(ROOT / "scripts" / "buildRPM.sh").splitlines() == rpm_packages
    assert sums() == before


def test_the_source_package_rebuilds_to_the_same_package(rpm_packages, tmp_path):
    when = query(rpm_packages[1], "--qf", "%{BUILDTIME}")[0]
    run(
        "rpmbuild",
        "--rebuild",
        "--define",
        f"_topdir {tmp_path}",
        "--define",
        f"_dbpath {tmp_path}/db",
        rpm_packages[1],
        HOME=str(tmp_path),
        SOURCE_DATE_EPOCH=when,
    )
    again = next((tmp_path / "RPMS").rglob("*.rpm"))
    assert again.name == os.path.basename(rpm_packages[0])
    table = "[%{FILENAMES} %{FILEMODES} %{FILEDIGESTS} %{FILEMTIMES}\\n]"
    assert query(again, "--qf", table) == query(rpm_packages[0], "--qf", table)


def test_the_source_package_has_the_program_s_sources(rpm_packages, tmp_path):
    unpack(rpm_packages[1], tmp_path / "files")
    names = run("tar", "-tzf", next((tmp_path / "files").glob("*.tar.gz"))).splitlines()
    wanted = [
        f"nuage-libnetwork/{path.relative_to(ROOT)}"
        for path in (ROOT / "nuage_appliance").rglob("*.py")
    ]
    assert set(wanted) <= set(names) and len(wanted) > 20
    assert not [
        name
        for name in names
        if "/tests/" in name or "/nuage_lab/" in name or "__pycache__" in name
    ]


def test_rpmlint_has_nothing_to_say_that_is_not_explained(rpm_packages):
    if not shutil.which("rpmlint"):
        pytest.skip("needs the package rpmlint; scripts/setup installs it")
    said = run(
        "rpmlint",
        "-c",
        ROOT / "rpmbuild" / "rpmlint.toml",
        *rpm_packages,
        ROOT / "rpmbuild" / "nuage-libnetwork.spec",
    )
    assert "0 errors, 0 warnings" in said, said


# --- how it is built


@pytest.fixture()
def workshop(rpm_tools, tmp_path):
    """A copy of what the package is made of. Its program is a small one, so that any version can be
    built without freezing it.
    """
    for name in (
        "build/stage-files",
        "build/progress.sh",
        "docs",
        "LICENSE",
        "NOTICE",
        "README.md",
        "pyproject.toml",
        "requirements.txt",
        "nuage_appliance",
        "scripts/buildRPM.sh",
    ):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    (tmp_path / "rpmbuild").mkdir()
    for path in (ROOT / "rpmbuild").iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path / "rpmbuild")
    (tmp_path / "scripts" / "build-binary").write_text("""#!/bin/sh
mkdir -p dist
version="${says:-${version:-6.0.0}}"
printf '#!/bin/sh\\necho nuage-libnetwork %s\\n' "$version" >dist/nuage-libnetwork
chmod 755 dist/nuage-libnetwork && echo "$PWD/dist/nuage-libnetwork"
""")
    (tmp_path / "scripts" / "build-binary").chmod(0o755)
    return tmp_path


def make(workshop, **environment):
    """Run buildRPM.sh there, as a user would."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("version", "SOURCE_DATE_EPOCH")
    }
    return subprocess.run(
        ["scripts/buildRPM.sh"],
        cwd=workshop,
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize("version", ["4.0.R7", "6.1~rc1", "20.10.5+site_2", "0"])
def test_the_version_of_the_environment_is_the_package_s(workshop, version):
    done = make(workshop, version=version)
    assert done.returncode == 0, done.stderr
    names = [
        f"RPMS/x86_64/nuage-libnetwork-{version}-1.x86_64.rpm",
        f"SRPMS/nuage-libnetwork-{version}-1.src.rpm",
    ]
    assert done.stdout.splitlines() == [f"{workshop}/rpmbuild/{name}" for name in names]
    assert query(workshop / "rpmbuild" / names[0], "--qf", "%{VERSION}") == [version]
    assert sorted(path.name for path in (workshop / "rpmbuild").iterdir() if path.is_dir()) == [
        "RPMS",
        "SRPMS",
    ]
    assert [path.name for path in (workshop / "build" / "work").iterdir()] == ["rpm.log"]


@pytest.mark.parametrize(
    "version",
    [
        "",
        " ",
        "1 2",
        "1-2",
        "1/2",
        "../1",
        "1'2",
        '1"2',
        "1\n2",
        "1\n",
        "1\x1b[7m",
        "$(id)",
        "%{name}",
        ".1",
        "~1",
        "é",
        "1" * 65,
    ],
)
def test_a_wrong_version_is_refused_with_one_line(workshop, version):
    done = make(workshop, version=version)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        re.fullmatch(r"scripts/buildRPM\.sh: .*version.*\n", done.stderr)
        and done.stderr[:-1].isprintable()
    ), done.stderr
    assert not (workshop / "rpmbuild" / "RPMS").exists() and not (workshop / "dist").exists()


def test_a_failed_build_shows_its_end_and_leaves_no_half_of_a_package(workshop):
    (workshop / "build" / "stage-files").write_text(
        "#!/bin/sh\necho no room on the disk >&2; exit 1\n"
    )
    done = make(workshop)
    assert done.returncode == 1 and "no room on the disk" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("scripts/buildRPM.sh: rpmbuild failed")
    assert not (workshop / "rpmbuild" / "RPMS").exists()
    assert [path.name for path in (workshop / "build" / "work").iterdir()] == ["rpm.log"]


def test_neither_the_place_of_the_checkout_nor_the_user_s_mask_makes_a_difference(
    workshop, tmp_path
):
    other = tmp_path / "elsewhere"
    shutil.copytree(workshop, other, ignore=shutil.ignore_patterns("elsewhere"))
    os.utime(other / "LICENSE", (1, 1))
    sums = []
    for place, mask in ((workshop, 0o022), (other, 0o077)):
        before = os.umask(mask)
        try:
            done = make(place, SOURCE_DATE_EPOCH="1700000000")
        finally:
            os.umask(before)
        assert done.returncode == 0, done.stderr
        sums.append(
            [
                hashlib.sha256(Path(path).read_bytes()).hexdigest()
                for path in done.stdout.splitlines()
            ]
        )
    assert sums[0] == sums[1] and len(sums[0]) == 2


def test_the_user_s_own_macros_change_nothing(workshop):
    (workshop / ".rpmmacros").write_text("%_topdir /nowhere\n%_prefix /opt\n")
    done = make(workshop, HOME=str(workshop))
    assert done.returncode == 0, done.stderr
    assert "/usr/bin/nuage-libnetwork" in query(done.stdout.splitlines()[0], "-l")


# --- install, upgrade, erase with rpm


def no_restart(problem):
    """What an upgrade says when the configuration cannot be used."""
    return [
        "No restart of nuage-libnetwork, because its configuration cannot be used:",
        f"nuage-libnetwork: /{CONFIG}: {problem}",
        f"Correct /{CONFIG}, and then: systemctl restart nuage-libnetwork",
    ]


def test_installing_enables_the_service_and_starts_nothing_yet(root, rpm_package):
    assert root.rpm("-i", rpm_package) == ""
    assert root.told() == [UNIT_FOUND, ENABLED]
    assert root.mode(CONFIG) == 0o640
    assert root.rpm("-V", "nuage-libnetwork") == ""


def test_the_installed_program_reads_the_installed_configuration(root, rpm_package):
    root.rpm("-i", rpm_package)
    words = [
        "chroot",
        str(root.path),
        "/usr/bin/nuage-libnetwork",
        "-config",
        f"/{CONFIG}",
        "-check",
    ]
    refused = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    root.write(CONFIG, EDITED, 0o640)
    assert run(*words) == f"nuage-libnetwork: /{CONFIG} can be used\n"


def test_installing_into_an_image_enables_the_service_without_a_running_systemd(
    base_rpm, binary, rpm_package, tmp_path
):
    root = Root(tmp_path / "root", base_rpm, binary, has_systemd=False)
    assert root.rpm("-i", rpm_package) == ""
    assert root.told() == [ENABLED]
    assert root.rpm("-e", "nuage-libnetwork") == ""
    assert root.told() == ["--no-reload disable nuage-libnetwork.service"]


@pytest.mark.parametrize("breakage", ["systemctl is missing", "systemctl fails"])
def test_no_trouble_with_systemctl_stops_an_installation_an_upgrade_or_an_erasure(
    root, rpm_package, newer_rpm, breakage
):
    if breakage == "systemctl is missing":
        (root.path / "usr/bin/systemctl").unlink()
    else:
        root.write("systemctl-fails", "")
    for words in (["-i", rpm_package], ["-U", newer_rpm], ["-e", "nuage-libnetwork"]):
        assert "failed" not in root.rpm(*words)
    assert not root.exists("usr/bin/nuage-libnetwork")


def test_an_upgrade_keeps_a_changed_configuration_and_restarts_the_service_once(
    root, rpm_package, newer_rpm
):
    root.rpm("-i", rpm_package)
    root.write(CONFIG, EDITED, 0o600)
    root.write("var/lib/nuage-libnetwork/host-id", "h1")
    root.told()
    assert root.rpm("-U", newer_rpm) == f"warning: /{CONFIG} created as /{CONFIG}.rpmnew\n"
    assert (root.read(CONFIG), root.mode(CONFIG)) == (EDITED, 0o600)
    assert (
        root.read(f"{CONFIG}.rpmnew").endswith("# new\n") and root.mode(f"{CONFIG}.rpmnew") == 0o640
    )
    assert root.told() == [UNIT_FOUND, UNIT_FOUND, RESTARTED]
    assert root.read("var/lib/nuage-libnetwork/host-id") == "h1"


def test_an_upgrade_leaves_a_running_program_alone_when_the_configuration_has_become_bad(
    root, rpm_package, newer_rpm
):
    root.rpm("-i", rpm_package)
    root.write(CONFIG, EDITED + "scope: galaxy\n", 0o640)
    root.write("is-active", "")
    assert root.rpm("-U", newer_rpm).splitlines()[-3:] == no_restart(
        "scope: 'galaxy' is not known; it must be one of local, global"
    )
    assert RESTARTED not in root.told()


def test_going_back_to_the_go_plugin_keeps_the_configuration_and_restarts_without_a_check(
    root, rpm_package, go_packages
):
    root.rpm("-i", rpm_package)
    root.write(CONFIG, EDITED, 0o640)
    root.write("is-active", "")
    root.told()
    root.rpm("-U", "--oldpackage", go_packages["careful"])
    assert root.read(CONFIG) == EDITED and root.exists(GO_UNIT_FILE) and not root.exists(UNIT)
    assert root.told() == [UNIT_FOUND, RESTARTED]


def test_an_upgrade_replaces_a_configuration_that_nobody_changed(root, rpm_package, newer_rpm):
    root.rpm("-i", rpm_package)
    assert root.rpm("-U", newer_rpm) == ""
    assert root.read(CONFIG).endswith("# new\n") and not root.exists(f"{CONFIG}.rpmnew")


def test_going_back_to_an_older_version_works_like_an_upgrade(root, rpm_package, newer_rpm):
    root.rpm("-i", newer_rpm)
    root.write(CONFIG, EDITED, 0o640)
    root.told()
    root.rpm("-U", "--oldpackage", rpm_package)
    assert root.read(CONFIG) == EDITED
    assert root.told() == [UNIT_FOUND, UNIT_FOUND, RESTARTED]


def test_reinstalling_neither_enables_again_what_was_disabled_nor_touches_the_configuration(
    root, rpm_package
):
    root.rpm("-i", rpm_package)
    root.write(CONFIG, EDITED, 0o640)
    root.told()
    root.rpm("-U", "--replacepkgs", rpm_package)
    assert ENABLED not in root.told() and root.read(CONFIG) == EDITED


def test_erasing_stops_and_disables_the_service_and_leaves_the_changed_configuration_state_and_log(
    root, rpm_package
):
    root.rpm("-i", rpm_package)
    root.write(CONFIG, EDITED, 0o640)
    root.write("var/lib/nuage-libnetwork/host-id", "h1")
    root.write("var/lib/nuage-libnetwork/unpacked/1/libz.so.1", "unpacked")
    root.write("var/log/nuage-libnetwork/nuage-libnetwork.log", "log")
    root.write("run/nuage-libnetwork/status.sock", "")
    root.told()
    said = root.rpm("-e", "nuage-libnetwork")
    assert f"/{CONFIG} saved as /{CONFIG}.rpmsave" in said
    assert root.told() == [DISABLED, UNIT_FOUND]
    assert root.read(f"{CONFIG}.rpmsave") == EDITED
    assert root.news() == {
        f"{CONFIG}.rpmsave",
        "var/lib/nuage-libnetwork",
        "var/lib/nuage-libnetwork/host-id",
        "var/log/nuage-libnetwork",
        "var/log/nuage-libnetwork/nuage-libnetwork.log",
    }


def test_erasing_what_was_never_used_leaves_nothing(root, rpm_package):
    root.rpm("-i", rpm_package)
    assert root.news()
    assert root.rpm("-e", "nuage-libnetwork") == ""
    assert root.news() == set()


def test_a_configuration_that_is_there_before_the_package_is_kept(root, rpm_package):
    root.write(CONFIG, EDITED, 0o640)
    root.rpm("-i", rpm_package)
    assert root.read(CONFIG) == EDITED and root.exists(f"{CONFIG}.rpmnew")


# --- upgrade from the predecessor, whose package has the same name


@pytest.fixture(scope="session")
def go_packages(rpm_tools, tmp_path_factory):
    """The predecessor with careful, with careless and without scripts."""
    kinds = {"careful": "%config(noreplace)", "careless": "", "none": "%config"}
    return {
        name: go_plugin(tmp_path_factory.mktemp(name), kinds[name], scripts)
        for name, scripts in GO_SCRIPTS.items()
    }


@pytest.fixture(params=GO_SCRIPTS)
def predecessor(request, root, go_packages):
    """A host on which the Go plugin is installed, enabled and running."""
    root.rpm("-i", go_packages[request.param])
    (root.path / WANTED).symlink_to(f"/{GO_UNIT_FILE}")
    root.write("is-active", "")
    return root


def test_an_upgrade_from_the_go_plugin_keeps_the_site_s_values_and_hides_them(
    predecessor, rpm_package
):
    predecessor.write(CONFIG, EDITED)
    predecessor.rpm("-U", rpm_package)
    assert (predecessor.read(CONFIG), predecessor.mode(CONFIG)) == (EDITED, 0o640)


def test_an_upgrade_from_the_go_plugin_keeps_values_that_came_with_its_package(
    predecessor, rpm_package
):
    predecessor.rpm("-U", rpm_package)
    assert (predecessor.read(CONFIG), predecessor.mode(CONFIG)) == (GO_SAMPLE, 0o640)
    assert predecessor.exists(f"{CONFIG}.rpmnew")


def test_an_upgrade_from_the_go_plugin_leaves_no_unit_in_front_of_ours_and_it_stays_enabled(
    predecessor, rpm_package
):
    predecessor.write(CONFIG, EDITED)
    predecessor.rpm("-U", rpm_package)
    assert not predecessor.exists(GO_UNIT_FILE) and predecessor.exists(UNIT)
    told = predecessor.told()
    assert told[-3:] == [
        "--no-reload reenable nuage-libnetwork.service",
        UNIT_FOUND,
        "restart nuage-libnetwork.service",
    ]
    assert not predecessor.exists("var/lib/rpm-state/nuage-libnetwork")


def test_an_upgrade_from_the_go_plugin_does_not_enable_what_was_disabled_nor_start_what_was_stopped(
    predecessor, rpm_package
):
    (predecessor.path / WANTED).unlink()
    (predecessor.path / "is-active").unlink()
    predecessor.write(CONFIG, EDITED)
    predecessor.rpm("-U", rpm_package)
    assert not [
        line
        for line in predecessor.told()
        if re.search(r"\b(enable|preset|reenable|start|restart|try-restart)\b", line)
    ]


def test_an_upgrade_from_the_go_plugin_with_a_wrong_configuration_names_it_and_does_not_restart(
    predecessor, rpm_package
):
    predecessor.write(CONFIG, EDITED + "mtu: many\n")
    assert predecessor.rpm("-U", rpm_package).splitlines()[-3:] == no_restart(
        "mtu: 'many' is not a whole number from 576 to 65535"
    )
    assert not [line for line in predecessor.told() if "restart" in line]


def test_what_is_noted_during_an_upgrade_from_the_go_plugin_is_hidden_as_it_has_the_credentials(
    root, rpm_package, go_packages
):
    root.rpm("-i", go_packages["none"])
    root.write(CONFIG, EDITED)
    root.rpm("-U", "--noposttrans", rpm_package)
    assert root.read("var/lib/rpm-state/nuage-libnetwork/config") == EDITED
    assert root.mode("var/lib/rpm-state/nuage-libnetwork") == 0o700


def test_a_unit_of_the_predecessor_that_no_package_owns_is_put_aside(root, rpm_package):
    root.write(GO_UNIT_FILE, GO_UNIT)
    (root.path / WANTED).symlink_to(f"/{GO_UNIT_FILE}")
    said = root.rpm("-i", rpm_package)
    assert f"/{GO_UNIT_FILE}.rpmsave" in said
    assert not root.exists(GO_UNIT_FILE) and root.read(f"{GO_UNIT_FILE}.rpmsave") == GO_UNIT
    assert "--no-reload reenable nuage-libnetwork.service" in root.told()


@pytest.mark.parametrize("kind", ["own unit", "masked", "drop-in"])
def test_what_the_administrator_made_of_the_unit_is_left_alone(root, rpm_package, newer_rpm, kind):
    root.rpm("-i", rpm_package)
    path = root.path / GO_UNIT_FILE
    if kind == "own unit":
        path.write_text(root.read(UNIT) + "Nice=-5\n")
    elif kind == "masked":
        path.symlink_to("/dev/null")
    else:
        path = root.path / f"{GO_UNIT_FILE}.d" / "site.conf"
        root.write(f"{GO_UNIT_FILE}.d/site.conf", "[Service]\nNice=-5\n")
    root.rpm("-U", newer_rpm)
    assert path.is_symlink() if kind == "masked" else "Nice=-5" in path.read_text()
    assert not root.exists(f"{GO_UNIT_FILE}.rpmsave")


# --- install, upgrade, erase with dnf


@pytest.fixture()
def dnf_root(base_rpm, binary, tmp_path):
    """An empty system whose only repository has what stands for RHEL 8."""
    missing = [
        package
        for program, package in (("dnf", "dnf"), ("createrepo_c", "createrepo-c"))
        if not shutil.which(program)
    ]
    if missing:
        pytest.skip(f"needs the packages {', '.join(missing)}; scripts/setup installs them")
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(base_rpm, repository)
    run("createrepo_c", "-q", repository)
    root = Root(tmp_path / "root", None, binary)
    root.write(
        "etc/yum.repos.d/base.repo", f"[base]\nname=base\nbaseurl=file://{repository}\ngpgcheck=0\n"
    )
    return root


def test_dnf_installs_upgrades_and_removes_it_with_what_it_needs(dnf_root, rpm_package, newer_rpm):
    dnf_root.dnf("localinstall", rpm_package)
    assert dnf_root.told() == [UNIT_FOUND, ENABLED] and dnf_root.mode(CONFIG) == 0o640
    dnf_root.write(CONFIG, EDITED, 0o640)
    dnf_root.dnf("upgrade", str(newer_rpm))
    assert dnf_root.read(CONFIG) == EDITED and dnf_root.told() == [
        UNIT_FOUND,
        UNIT_FOUND,
        RESTARTED,
    ]
    said = dnf_root.dnf("remove", "nuage-libnetwork")
    assert "Complete!" in said and dnf_root.told() == [DISABLED, UNIT_FOUND]
    assert dnf_root.read(f"{CONFIG}.rpmsave") == EDITED and not dnf_root.exists(
        "usr/bin/nuage-libnetwork"
    )


def test_dnf_upgrades_from_the_go_plugin(dnf_root, rpm_package, go_packages):
    dnf_root.dnf("localinstall", str(go_packages["careless"]))
    (dnf_root.path / WANTED).symlink_to(f"/{GO_UNIT_FILE}")
    dnf_root.write("is-active", "")
    dnf_root.write(CONFIG, EDITED)
    dnf_root.dnf("localinstall", rpm_package)
    assert dnf_root.read(CONFIG) == EDITED and not dnf_root.exists(GO_UNIT_FILE)
    assert dnf_root.told()[-3:] == [
        "--no-reload reenable nuage-libnetwork.service",
        UNIT_FOUND,
        "restart nuage-libnetwork.service",
    ]


def test_a_checkout_whose_path_rpmbuild_cannot_take_is_refused_before_anything_is_built(tmp_path):
    script = tmp_path / "a b" / "scripts" / "buildRPM.sh"
    script.parent.mkdir(parents=True)
    for part in ("scripts/buildRPM.sh", "build/progress.sh"):
        (tmp_path / "a b" / part).parent.mkdir(exist_ok=True)
        (tmp_path / "a b" / part).write_bytes((ROOT / part).read_bytes())
    done = subprocess.run(["sh", script], capture_output=True, text=True, timeout=60)
    assert (
        done.returncode == 1
        and done.stderr.count("\n") == 1
        and f"'{tmp_path / 'a b'}'" in done.stderr
        and "move it" in done.stderr
    )
    left = sorted(path.name for path in (tmp_path / "a b").rglob("*") if path.is_file())
    assert left == ["buildRPM.sh", "progress.sh"]
