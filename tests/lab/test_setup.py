"""scripts/setup, scripts/test, the demo's ends and the progress lines; apt and pip are played."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMON_PROGRAMS = """
    awk bash cat chmod cksum comm cp cut date dirname env find flock grep head id kill ls mkdir
    mktemp mv rm sed sh sleep sort tail touch tr
"""
DEMO_PROGRAMS = """
    dockerd docker ovs-vswitchd tini ip ebtables-nft openssl curl ethtool nsenter pivot_root busybox
"""
BUILD_PROGRAMS = "debootstrap rpmbuild cpio"
# Plays Python: makes an environment whose Python is itself, and writes down what pip was asked for.
PYTHON = """#!/bin/sh
case "$*" in
    *ensurepip*) exit 0 ;;
    *sys.executable*) echo "$PLAYED_PYTHON" ;;
    *version_info*) echo 3.11 ;;
    "-m venv "*)
        mkdir -p "$3/bin" && cp "$PLAYED_PYTHON" "$3/bin/python"
        echo "venv" >>"$PLAYED_LOG"
        ;;
    "-m pip "*) echo "pip $*" >>"$PLAYED_LOG" ;;
esac
"""


class Machine:
    """A machine with few programs, and a checkout on it."""

    def __init__(self, directory):
        self.programs = directory / "bin"
        self.programs.mkdir()
        self.checkout = directory / "a checkout"
        self.log = directory / "played"
        self.python = directory / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        for name in COMMON_PROGRAMS.split():
            (self.programs / name).symlink_to(shutil.which(name))
        for name in (
            "scripts/setup",
            "scripts/test",
            "build/progress.sh",
            "requirements.txt",
            "nuage_lab/requirements.txt",
            "tests/requirements.txt",
            "pyproject.toml",
        ):
            target = self.checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        # This machine's own programs are not the played one's.
        setup = self.checkout / "scripts" / "setup"
        self.policy = directory / "policy-rc.d"
        self.units = directory / "units"
        setup.write_text(
            setup.read_text()
            .replace("PATH=$PATH:/usr/sbin:/sbin\n", "")
            .replace("/usr/sbin/policy-rc.d", str(self.policy))
            .replace("/etc/systemd/system", str(self.units))
        )

    def add(self, name, text):
        """Add a program to the machine, or to the checkout when it has a slash."""
        path = (self.checkout if "/" in name else self.programs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def be_an_ordinary_user(self):
        self.add("id", "echo 1000")

    def run(self, *words, **environment):
        return subprocess.run(
            [self.checkout / words[0], *words[1:]],
            env={
                "PATH": str(self.programs),
                "PLAYED_LOG": str(self.log),
                "PLAYED_PYTHON": str(self.python),
                "PYTHON": str(self.python),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )

    def played(self):
        """What was done since the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_demo_asks_for_what_it_needs_and_for_no_test_tool(machine):
    machine.be_an_ordinary_user()
    done = machine.run("scripts/setup", "demo")
    assert done.returncode == 1
    for package in ("docker.io", "openvswitch-switch", "iptables", "busybox-static"):
        assert f" {package}" in done.stderr
    for package in ("chromium", "lintian", "rpm", "dnf", "debootstrap"):
        assert package not in done.stderr
    assert "run it as root" in done.stderr


def test_pivot_root_is_looked_for_where_newer_releases_have_it(machine):
    machine.be_an_ordinary_user()
    assert "util-linux-extra" in machine.run("scripts/setup", "demo").stderr
    machine.add("pivot_root", "exit 0")
    assert "util-linux-extra" not in machine.run("scripts/setup", "demo").stderr


def test_unit_tests_need_no_package(machine):
    machine.be_an_ordinary_user()
    assert machine.run("scripts/setup", "python").returncode == 0
    assert machine.played()[0] == "venv"


def test_what_is_ready_is_left_alone(machine):
    machine.run("scripts/setup", "python")
    assert len(machine.played()) > 1
    done = machine.run("scripts/setup", "python")
    assert (done.returncode, done.stderr, machine.played()) == (0, "", [])


def test_a_checkout_that_was_moved_gets_a_new_environment(machine):
    machine.run("scripts/setup", "python")
    machine.played()
    machine.checkout = machine.checkout.rename(machine.checkout.parent / "renamed")
    assert machine.run("scripts/setup", "python").returncode == 0
    assert machine.played()[0] == "venv"


@pytest.mark.parametrize(
    "name, is_new",
    [("requirements.txt", True), ("pyproject.toml", True), ("tests/requirements.txt", False)],
)
def test_the_environment_follows_the_requirements(machine, name, is_new):
    machine.run("scripts/setup", "python")
    machine.played()
    with open(machine.checkout / name, "a") as file:
        file.write("# another\n")
    machine.run("scripts/setup", "python")
    played = machine.played()
    assert ("venv" in played) == is_new
    assert "tests/requirements.txt" in played[-1], "the tests' packages are there again"


def test_the_level_of_an_environment_never_falls(machine):
    machine.run("scripts/setup", "python")
    machine.played()
    (machine.checkout / "requirements.txt").write_text("another\n")
    machine.be_an_ordinary_user()
    for name in DEMO_PROGRAMS.split():
        machine.add(name, "exit 0")
    machine.add("ldd", "echo not a dynamic executable")
    assert machine.run("scripts/setup", "demo").returncode == 0
    assert "tests/requirements.txt" in machine.played()[-1]


def test_pip_that_fails_is_shown_and_nothing_is_taken_for_ready(machine):
    machine.python.write_text(PYTHON.replace('echo "pip $*"', "echo no network; exit 1; echo"))
    done = machine.run("scripts/setup", "python")
    assert done.returncode == 1
    assert "no network" in done.stderr and "build/work/setup.log" in done.stderr
    machine.python.write_text(PYTHON)
    assert machine.run("scripts/setup", "python").returncode == 0
    assert "venv" in machine.played()


@pytest.mark.parametrize("words", [("lab",), ("demo", "test")])
def test_an_unknown_level_is_refused(machine, words):
    done = machine.run("scripts/setup", *words)
    assert done.returncode == 2 and "python, demo, build or test" in done.stderr


# -- packages

# Installs programs of the packages' names, and a service. Words in FAILS make it fail.
APT_GET = """
echo "apt-get $*" >>"$PLAYED_LOG"
case "$*" in *--assume-no*) exit 1 ;; *install*) ;; *) exit 0 ;; esac
[ -e "$PLAYED_POLICY" ] || { echo "services would start"; exit 100; }
for word in $FAILS; do
    case " $* " in *" $word "*) echo "E: cannot install $word"; exit 100 ;; esac
done
ln -s /lib/systemd/system/docker.service "$PLAYED_UNITS/multi-user.target.wants/docker.service"
for word in "$@"; do
    case $word in -* | install) continue ;; esac
    printf '#!/bin/sh\\n' >"$PLAYED_BIN/$word"
    chmod 755 "$PLAYED_BIN/$word"
done
"""
APT_CACHE = """
for word in "$@"; do
    case " $UNKNOWN show " in *" $word "*) continue ;; esac
    echo "Package: $word"
done
"""


@pytest.fixture
def debian(machine):
    """A machine with apt, the programs of the demo but for the engine, and those of the builds."""
    machine.add("id", "echo 0")
    machine.add("ldd", "echo not a dynamic executable")
    (machine.programs / "ln").symlink_to(shutil.which("ln"))
    machine.add("apt-get", APT_GET)
    machine.add("apt-cache", APT_CACHE)
    for name in [*DEMO_PROGRAMS.split()[1:], *BUILD_PROGRAMS.split()]:
        machine.add(name, "exit 0")
    wants = machine.units / "multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")

    def run(level, **environment):
        return machine.run(
            "scripts/setup",
            level,
            PLAYED_POLICY=str(machine.policy),
            PLAYED_UNITS=str(machine.units),
            PLAYED_BIN=str(machine.programs),
            **{"FAILS": "", "UNKNOWN": "", **environment},
        )

    machine.setup = run
    return machine


def installs(machine):
    """What apt-get was asked to install since the last time, one text a call."""
    return [
        line.partition(" install ")[2]
        for line in machine.played()
        if line.startswith("apt-get") and " install " in line and "--assume-no" not in line
    ]


def test_no_service_starts_or_stays_enabled_but_those_that_were(debian):
    done = debian.setup("demo")
    assert done.returncode == 0, done.stderr
    assert installs(debian) == ["docker.io docker-cli"]
    assert [path.name for path in debian.units.rglob("*.service")] == ["ssh.service"]
    assert "neither started nor enabled: docker.service" in done.stderr
    assert not debian.policy.exists()


def test_a_policy_of_the_machine_itself_stays(debian):
    debian.policy.write_text("mine")
    assert debian.setup("demo").returncode == 0
    assert debian.policy.read_text() == "mine"


def test_a_test_tool_that_the_release_lacks_is_named_once_and_takes_nothing_away(debian):
    done = debian.setup("test", UNKNOWN="rpmlint docker-cli")
    assert done.returncode == 0, done.stderr
    assert "this release lacks: rpmlint; the tests that need them skip" in done.stderr
    asked = installs(debian)
    assert asked[0] == "docker.io" and "lintian" in asked[1] and "rpmlint" not in asked[1]
    debian.add("dockerd", "exit 0")
    for name in ("createrepo_c", "chromium"):
        debian.add(name, "exit 0")
    assert (debian.setup("test").stderr, debian.played()) == ("", [])


def test_a_test_tool_that_cannot_be_installed_takes_no_other_away(debian):
    done = debian.setup("test", FAILS="lintian")
    assert done.returncode == 0, done.stderr
    assert "mandoc" in installs(debian) and "lacks: lintian" in done.stderr


def test_what_the_demo_needs_and_apt_does_not_know_is_an_error(debian):
    done = debian.setup("demo", UNKNOWN="docker.io")
    assert done.returncode == 1 and "apt knows no package docker.io" in done.stderr
    assert not installs(debian) and not debian.policy.exists()


def test_what_apt_said_is_shown_when_it_fails(debian):
    done = debian.setup("demo", FAILS="docker.io")
    assert done.returncode == 1
    assert "E: cannot install docker.io" in done.stderr
    assert "build/work/setup.log" in done.stderr and not debian.policy.exists()


# -- the tests' front


@pytest.fixture
def front(machine):
    """The checkout of a machine whose other scripts only write down that they were called."""
    for name in ("scripts/setup", "scripts/lab", "scripts/build-binary", "scripts/check"):
        machine.add(name, f'echo "{name.partition("/")[2]} $*" >>"$PLAYED_LOG"')
    machine.add(".venv/bin/python", 'echo "python $*" >>"$PLAYED_LOG"')
    machine.add("id", "echo 0")
    for name in ("unit/test_a.py", "contract/test_b.py", "faults/test_c.py", "packaging/test_d.py"):
        path = machine.checkout / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return machine


UNIT = "tests/unit/test_a.py"
CONTRACT = "tests/contract/test_b.py"


@pytest.mark.parametrize(
    "words, made_ready",
    [
        ([UNIT], ["setup python"]),
        (["-x", f"{UNIT}::test_one[a b]", "-k", "one"], ["setup python"]),
        (["tests/unit", CONTRACT], ["setup python", "setup demo"]),
        (["tests/faults"], ["setup python", "setup demo", "lab fetch"]),
        (["tests/packaging/test_d.py"], ["setup test", "lab fetch", "build-binary"]),
        (["-k", "one"], ["setup test", "lab fetch", "build-binary"]),
        (["tests/faults", "--engines=26,28"], ["setup python", "setup demo", "lab fetch 26 28"]),
    ],
)
def test_only_what_the_asked_tests_need_is_made_ready(front, words, made_ready):
    assert front.run("scripts/test", *words).returncode == 0
    *before, pytest_call = [line.strip() for line in front.played()]
    assert before == made_ready
    assert pytest_call == f"python -m pytest -ra {' '.join(words)}"


def test_a_test_that_is_not_there_is_refused_before_anything_is_made_ready(front):
    done = front.run("scripts/test", "tests/unit/test_none.py::test_one")
    assert (done.returncode, front.played()) == (2, [])
    assert "there is no tests/unit/test_none.py" in done.stdout + done.stderr


def test_an_ordinary_user_fetches_and_builds_nothing(front):
    front.be_an_ordinary_user()
    front.run("scripts/test", CONTRACT)
    assert [line.split()[0] for line in front.played()] == ["setup", "python"]


@pytest.mark.parametrize("words, engines", [([], "20.10 28"), (["--nightly"], "all")])
def test_all_tests_are_checked_first_and_the_night_has_all_engines(front, words, engines):
    front.run("scripts/test", *words)
    played = [line.strip() for line in front.played()]
    assert played[:4] == ["setup test", "check --no-tests", f"lab fetch {engines}", "build-binary"]
    assert ("--engines=all" in played[4]) == bool(words)


def test_a_check_that_fails_ends_the_run(front):
    front.add("scripts/check", "exit 1")
    assert front.run("scripts/test").returncode == 1
    assert [line.strip() for line in front.played()] == ["setup test"]


# -- the demo


@pytest.fixture
def demo(machine):
    """The demo in a checkout whose lab is played: it ends with the status in PLAYED_STATUS."""
    shutil.copy(ROOT / "scripts/demo", machine.checkout / "scripts")
    (machine.programs / "seq").symlink_to(shutil.which("seq"))
    machine.add("scripts/setup", "exit 0")
    machine.add("scripts/lab", 'echo "the lab says why" >&2; exit "$PLAYED_STATUS"')
    machine.add("id", "echo 0")
    state = machine.log.parent / "state"
    state.mkdir()
    machine.state = state
    machine.demo = lambda status: machine.run(
        "scripts/demo", PLAYED_STATUS=str(status), NUAGE_LAB_STATE=str(state)
    )
    return machine


def test_an_interrupted_demo_is_no_failed_step(demo):
    (demo.state / "log" / "h1").mkdir(parents=True)
    done = demo.demo(130)
    assert (done.returncode, done.stderr) == (130, "the lab says why\n")


def test_a_failed_demo_says_where_to_look_when_there_is_something_to_see(demo):
    done = demo.demo(1)
    assert (done.returncode, done.stderr) == (1, "the lab says why\n")
    (demo.state / "log" / "h1").mkdir(parents=True)
    done = demo.demo(1)
    assert done.returncode == 1 and "scripts/lab logs h1 appliance" in done.stderr


# -- progress


def test_an_interruption_ends_the_command_and_its_progress_line(tmp_path):
    script = (
        f'. "{ROOT}/build/progress.sh"; trap stop_progress EXIT; trap "exit 130" INT; '
        f'with_progress "{tmp_path}/log" begun sleep 600'
    )
    with subprocess.Popen(
        ["sh", "-euc", script],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "NUAGE_PROGRESS_S": "0.05"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr.readline() == "begun\n"
        process.stderr.readline()  # the first line of progress: now the command runs
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)  # until nobody has the pipe any more
        assert process.returncode == 130


def progress(script, **environment):
    return subprocess.run(
        ["sh", "-euc", f'. "{ROOT}/build/progress.sh"; {script}'],
        env={**os.environ, "NUAGE_PROGRESS_S": "0.05", **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_long_command_shows_how_far_it_is(tmp_path):
    done = progress(f'with_progress "{tmp_path}/log" "counting" sh -c "echo halfway; sleep 0.5"')
    first, *lines = done.stderr.splitlines()
    assert first == "counting" and len(lines) >= 2
    assert all(line.split(maxsplit=2)[2] == "halfway" for line in lines)
    assert done.stdout == "" and (tmp_path / "log").read_text() == "\nhalfway\n"


def test_a_command_that_fails_keeps_its_status_and_shows_its_end(tmp_path):
    log = tmp_path / "log"
    done = progress(
        f'with_progress "{log}" "counting" sh -c "seq 100; exit 7" || '
        f'{{ show_failure "{log}" seq "$?"; exit 3; }}'
    )
    assert done.returncode == 3
    assert "    100\n" in done.stderr and "    50\n" not in done.stderr
    assert f"seq failed with status 7; the whole output is in {log}" in done.stderr
