"""The one file that users run: what is in it, how it starts and ends, and what it leaves behind."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nuage_appliance import __version__
from nuage_lab import packages
from nuage_lab.hosts.host import HostSpec
from nuage_lab.managed_plugin import CA_FILE
from tests.support import lab as lab_support
from tests.support.appliance import PATIENCE_S, ROOT
from tests.support.frozen import BINARY, PROGRAM, UNPACKED, FrozenAppliance, Mounts, age, wait_gone

WORK = ROOT / "build" / "work"
STOPS_S = 15.0  # calls that run have ten seconds
IN_TREE = Path(__file__).with_name("in_tree.sh")


@pytest.fixture(scope="module")
def tree(binary):
    """The toolchain: a Debian with glibc 2.31."""
    done = subprocess.run(
        [sys.executable, ROOT / "build" / "toolchain.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Path(done.stdout.strip())


@pytest.fixture()
def mounts(binary):
    """A host on which the program never ran, and whose /tmp forbids to run files."""
    with Mounts("noexec") as mounts:
        yield mounts


@pytest.fixture()
def site(tmp_path, ovsdb):
    """What the appliance needs to know; no VSD and no engine answers there."""
    return "https://127.0.0.1:1", ovsdb.socket, str(tmp_path / "docker.sock")


def run(*words, **options):
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=PATIENCE_S, **options
    )


# --- what is in it


def listing(binary):
    """Every name in the file, with what it holds: files, modules, and the modules' code."""
    text = run(
        sys.executable,
        "-c",
        """
import sys
from PyInstaller.archive.readers import CArchiveReader
archive = CArchiveReader(sys.argv[1])
for name, entry in archive.toc.items():
    if entry[-1] == "z":
        for module in archive.open_embedded_archive(name).toc:
            print("module", module)
    else:
        print("file", name)
""",
        binary,
        env={**os.environ, "PYTHONPATH": str(WORK / "site")},
        check=True,
    ).stdout
    return [line.split(" ", 1) for line in text.splitlines()]


def test_neither_the_lab_nor_the_tests_nor_what_is_not_used_is_in_it(binary):
    names = listing(binary)
    modules = {name for kind, name in names if kind == "module"}
    assert {
        "nuage_appliance.app",
        "gevent.pywsgi",
        "bottle",
        "yaml",
        "ovs.jsonrpc",
        "requests",
        "consul",
    } <= modules
    for package in (
        "nuage_lab",
        "tests",
        "bench",
        "pytest",
        "gevent.tests",
        "tkinter",
        "unittest",
        "pip",
    ):
        assert not [
            module for module in modules if module == package or module.startswith(f"{package}.")
        ], package
    assert not [
        name
        for kind, name in names
        if kind == "file" and ("nuage_lab" in name or "test" in name.lower())
    ]


def test_nothing_of_the_machine_that_made_it_is_in_it(binary):
    """Neither paths nor the host's name, in what is compressed in the file."""
    done = run(
        sys.executable,
        "-c",
        """
import sys
from PyInstaller.archive.readers import CArchiveReader
archive = CArchiveReader(sys.argv[1])
for name, entry in archive.toc.items():
    if entry[-1] == "z":
        modules = archive.open_embedded_archive(name)
        contents = {module: modules.extract(module, raw=True) for module in modules.toc}
    else:
        contents = {name: archive.extract(name)}
    for part, content in contents.items():
        for word in sys.argv[2:]:
            if word.encode() in (content or b""):
                print(part, word)
""",
        binary,
        str(ROOT),
        str(Path.home()) + "/",
        *([name] if len(name := os.uname().nodename) > 4 else ()),
        str(packages.CACHE),
        "/build/source",
        env={**os.environ, "PYTHONPATH": str(WORK / "site")},
        check=True,
    )
    assert done.stdout == ""


def test_it_needs_no_newer_c_library_than_that_of_rhel_8(tree):
    check = ROOT / "build" / "in-toolchain"
    shutil.copyfile(ROOT / "build" / "check_binary.py", WORK / "check_binary.py")
    shutil.copyfile(BINARY, WORK / "checked")
    done = run(check, tree, WORK, "python3", "check_binary.py", "checked", "2.28")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 20, "the libraries were not looked at"
    assert run(check, tree, WORK, "python3", "check_binary.py", "checked", "2.14").returncode == 1


def test_another_build_of_the_same_sources_elsewhere_is_the_same_file(binary, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", "dist", "work", "__pycache__", ".hypothesis"
        ),
    )
    (copy / ".venv").symlink_to(ROOT / ".venv")
    (copy / "build" / "work").mkdir()
    shutil.copytree(WORK / "site", copy / "build" / "work" / "site", symlinks=True)
    done = subprocess.run(
        [copy / "scripts" / "build-binary"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert digest(copy / "dist" / "nuage-libnetwork") == digest(binary)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_bundled_has_its_licence_beside_it(binary):
    text = (ROOT / "dist" / "third-party-licences.txt").read_text()
    for name in (
        "gevent 26",
        "bottle 0",
        "PyYAML 6",
        "ovs 4",
        "requests 2",
        "python-consul 1",
        "OpenSSL\n",
        "Python\n",
        "zlib1g",
        "libc6",
    ):
        assert f"{'=' * 100}\n{name}" in text


@pytest.mark.parametrize("version", [" ", "6 0", "6/0", "$(id)", "6\n0", "6'0", "é"])
def test_what_cannot_be_a_version_is_refused_in_one_line(version):
    done = run(ROOT / "scripts" / "build-binary", env={**os.environ, "version": version})
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.startswith("scripts/build-binary: version: ") and "such as 6.0.1" in done.stderr
    )


# --- how it starts


def test_it_tells_its_version_and_leaves_nothing_unpacked(mounts):
    done = run(*mounts.command(PROGRAM, "-version"))
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"nuage-libnetwork {__version__}\n",
        "",
    )
    assert mounts.unpacked() == []


def test_it_runs_where_proc_is_of_another_pid_namespace_or_is_not_there(mounts):
    for command in (
        ("unshare", "-p", "-f"),
        ("unshare", "-m", "-p", "-f", "sh", "-c", 'umount -l /proc && exec "$@"', "sh"),
    ):
        done = run(*mounts.command(*command, PROGRAM, "-version"))
        assert (done.returncode, done.stdout, done.stderr) == (
            0,
            f"nuage-libnetwork {__version__}\n",
            "",
        ), command
    assert mounts.unpacked() == []


def test_it_serves_where_tmp_forbids_to_run_files_and_leaves_nothing_there(mounts, site):
    before = {name for name in os.listdir("/tmp") if name.startswith("_MEI")}
    with FrozenAppliance(mounts, *site) as appliance:
        assert len(mounts.unpacked()) == 1
        assert all(appliance.listens(path) for path in appliance.sockets)
        assert {name for name in os.listdir("/tmp") if name.startswith("_MEI")} <= before
        assert appliance.kill(signal.SIGTERM) == 0
    assert mounts.unpacked() == []


def test_programs_that_it_starts_find_the_libraries_of_the_host(tmp_path):
    """The file that runs first in the frozen program, as PyInstaller runs it, and a program started
    after it.
    """
    (tmp_path / "_MEIx").mkdir()
    code = f"""
import runpy, subprocess, sys
sys._MEIPASS = {str(tmp_path / "_MEIx")!r}
runpy.run_path({str(ROOT / "build" / "frozen_start.py")!r})
subprocess.run(["env"], check=True)
"""
    for before in (None, "/opt/lib"):
        environment = {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": "/bundled",
            **({"LD_LIBRARY_PATH_ORIG": before} if before else {}),
        }
        done = run(
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)",
            env=environment,
        )
        found = [line for line in done.stdout.splitlines() if line.startswith("LD_LIBRARY_PATH")]
        assert found == ([f"LD_LIBRARY_PATH={before}"] if before else []), done.stderr


def test_systemd_is_told_that_it_is_ready_and_that_it_lives(mounts, site, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(PATIENCE_S)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        with FrozenAppliance(mounts, *site, environment=environment):
            seen = [channel.recv(1000).decode()]
            while len(seen) < 4:
                seen.append(channel.recv(1000).decode())
    assert "READY=1" in seen[0].splitlines()
    assert [text for text in seen if "WATCHDOG=1" in text]


# --- signals, and how it ends


def test_a_signal_to_the_loader_reaches_the_program_once(mounts, site):
    with FrozenAppliance(mounts, *site) as appliance:
        appliance.process.send_signal(signal.SIGHUP)
        appliance.wait_until(lambda: "configuration" in appliance.log(), what="a reload")
        appliance.process.send_signal(signal.SIGUSR2)
        appliance.wait_until(lambda: "audit" in appliance.log().lower(), what="an audit")
        time.sleep(0.5)
        assert appliance.log().count("was read again") == 1, appliance.log()
        assert appliance.kill(signal.SIGTERM) == 0
        assert not any(os.path.exists(path) for path in appliance.sockets)
    assert mounts.unpacked() == []


def test_when_the_program_is_killed_the_loader_ends_and_removes_what_it_unpacked(mounts, site):
    with FrozenAppliance(mounts, *site) as appliance:
        os.kill(appliance.program(), signal.SIGKILL)
        assert appliance.process.wait(STOPS_S) == -signal.SIGKILL
        assert mounts.unpacked() == []
        appliance.start()
        assert len(mounts.unpacked()) == 1


def test_when_the_loader_is_killed_the_program_stops_in_order_and_removes_what_was_unpacked(
    mounts, site
):
    with FrozenAppliance(mounts, *site) as appliance:
        program = appliance.program()
        appliance.process.kill()
        appliance.process.wait(PATIENCE_S)
        wait_gone(program, STOPS_S)
        assert mounts.unpacked() == []
        assert not any(os.path.exists(path) for path in appliance.sockets)
        appliance.start()
        assert len(mounts.unpacked()) == 1


def test_what_was_left_by_a_kill_of_both_goes_at_a_later_start_and_what_is_in_use_stays(
    mounts, site
):
    with FrozenAppliance(mounts, *site) as running, FrozenAppliance(mounts, *site) as killed:
        (in_use,) = {
            path
            for path in mounts.unpacked()
            if str(path.name) in Path(f"/proc/{running.program()}/maps").read_text()
        }
        both = killed.pids()
        # Stopped first, so that neither sees the other's end.
        for number in (
            signal.SIGSTOP,
            signal.SIGKILL,
        ):
            for pid in both:
                os.kill(pid, number)
        killed.process.wait(PATIENCE_S)
        wait_gone(both[1])
        (left,) = set(mounts.unpacked()) - {in_use}
        young = mounts.path(UNPACKED) / "_MEIyoung"
        young.mkdir()
        foreign = mounts.path(UNPACKED) / "else"
        foreign.mkdir()
        ahead = mounts.path(UNPACKED) / "_MEIahead"  # a clock was wrong
        ahead.mkdir()
        for directory in (left, in_use, foreign):
            age(directory, 60)
        age(ahead, -10_000)
        killed.start()
        assert not left.exists() and not ahead.exists(), "what nobody uses was kept"
        assert in_use.exists() and young.exists() and foreign.exists(), (
            "something that is not ours to remove has gone"
        )
        assert all(running.listens(path) for path in running.sockets)
        assert len(mounts.unpacked()) == 4


# --- an older system


def test_a_container_is_attached_by_the_program_on_a_debian_with_an_older_c_library(tree, tmp_path):
    """The appliance's root is Debian bullseye, glibc 2.31, without the Python that is compiled
    there; the rest of the host is the machine's.
    """
    program = ("unshare", "-m", "sh", str(IN_TREE), str(tree), str(BINARY))
    specs = {"h1": HostSpec(appliance=program)}
    with lab_support.running_lab(tmp_path / "lab", appliance=False, specs=specs) as lab:
        host = lab.host("h1")
        host.write_config(CA_FILE)
        shutil.copyfile(lab.ca_file, host.path(CA_FILE))
        host.appliance.start()
        lab_support.wait_ready(host)
        libraries = host.exec(["sh", "-c", "cat /proc/$(pgrep -n nuage-libnet)/maps"]).stdout
        assert (
            "libc-2.31.so" in libraries and UNPACKED in libraries and "/opt/python" not in libraries
        )
        host.docker(
            "network",
            "create",
            "--driver=nuage",
            "--ipam-driver=nuage-ipam",
            "--ipam-opt",
            "organization=Enterprise",
            "--ipam-opt",
            "domain=Domain",
            "--ipam-opt",
            "zone=Zone",
            "--ipam-opt",
            "subnet=Subnet 2",
            "--ipam-opt",
            "user=admin",
            "MyNet",
        )
        host.docker(
            "run", "-d", "--net", "MyNet", "--name", "other", "nuage-lab/busybox", "sleep", "600"
        )
        said = host.docker(
            "run",
            "--rm",
            "--net",
            "MyNet",
            "nuage-lab/busybox",
            "ping",
            "-c",
            "4",
            "other",
            check=False,
        ).stdout
        assert "bytes from" in said, said
        host.docker("rm", "-f", "other")
        host.docker("network", "rm", "MyNet")
