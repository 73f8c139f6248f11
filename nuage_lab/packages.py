"""Programs from Debian packages that this machine does not install: fetched with apt, unpacked into
a cache, never installed.

Nothing of the machine's apt is changed: lists, cache and status are directories of the cache's own.
What is in the cache is complete: it is made aside and renamed into place. `rm -r
/var/cache/nuage-lab` is always allowed while no lab is up.
"""

import os
import shutil
import tempfile
from pathlib import Path

from nuage_lab.hosts import progress
from nuage_lab.hosts.host import CACHE
from nuage_lab.hosts.run import LabError, locked, run

DEBIAN_ARCHIVE = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FETCH_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 600.0
LOCK_TIMEOUT_S = 900.0  # somebody else may be making an engine's tree
APT_CONFIGURATION = """// A Release file may be older than it claims to be good for.
// Its signature is checked all the same.
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::http::Timeout "20";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
"""


def mirror():
    """Return the address of the Debian archive:

    NUAGE_LAB_MIRROR, or what this machine's own apt uses, or Debian's usual one.
    """
    if os.environ.get("NUAGE_LAB_MIRROR"):
        return os.environ["NUAGE_LAB_MIRROR"]
    listed = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(LABEL)"],
        timeout=30.0,
        check=False,
    ).stdout
    return archive_of(listed) or DEBIAN_ARCHIVE


def archive_of(listed):
    """Return the first Debian archive in lines of "ADDRESS COMPONENT LABEL", or None.

    Without package lists there is no label yet.
    """
    for line in listed.splitlines():
        address, component, *label = line.split() or ("", "")
        is_debian = label == ["Debian"] or (not label and address.rstrip("/").endswith("/debian"))
        if component == "main" and is_debian:
            return address.rstrip("/")
    return None


def _need_keyring():
    if not Path(KEYRING).exists():
        raise LabError(
            f"{KEYRING} is missing, so nothing from Debian's archive can be verified; "
            "install the package debian-archive-keyring, as `scripts/setup build` does"
        )


def place(package, suite):
    """Return the directory that unpacked returns, whether it is there or not."""
    return CACHE / f"{package}-{suite}"


def unpacked(package, suite):
    """Return the directory with the files of a suite's package; fetched at the first time.

    LabError when it cannot be had.
    """
    return made(place(package, suite).name, lambda directory: _fetch(package, suite, directory))


def made(name, make):
    """Return CACHE/name.

    If it is not there, make(directory) fills a directory aside, which then gets the name.
    """
    final = CACHE / name
    if final.is_dir():
        return final
    if os.geteuid():
        raise LabError(f"{final} is not there yet, and making it needs root")
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{name}.lock", LOCK_TIMEOUT_S):
        if final.is_dir():
            return final
        aside = CACHE / f"{name}.new"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        progress.announce(f"making {final}, once")
        try:
            make(aside)
        except LabError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise LabError(f"cannot make {final}: {error}") from error
        aside.rename(final)
    return final


def download(suite, directory, package=None, sources=()):
    """Put a suite's binary package, or source packages (their .dsc and archives), into a directory.

    LabError when they cannot be had.
    """
    _need_keyring()
    work = directory / ".apt"
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(
        f"deb{'-src' if sources else ''} [signed-by={KEYRING}] {mirror()} {suite} main\n"
    )
    options = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": work / "parts",
        "Dir::State": work,
        "Dir::State::status": work / "status",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Acquire::Languages": "none",
        "Acquire::http::Timeout": 20,
        "Acquire::Retries": 2,
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
    }
    apt = [
        "apt-get",
        "-qq",
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
    ]
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    step(f"apt-get update of {suite}", [*apt, "update"], FETCH_TIMEOUT_S, environment)
    words = ("source", "--download-only", *sources) if sources else ("download", package)
    step(
        f"apt-get {' '.join(words)}",
        ["env", f"--chdir={directory}", *apt, *words],
        FETCH_TIMEOUT_S,
        environment,
    )
    shutil.rmtree(work)


def bootstrap(suite, place, include=()):
    """Make a minimal Debian of a suite in a directory.

    Every mount that is made for it vanishes with the command that made it.
    """
    _need_keyring()
    if shutil.which("debootstrap") is None:
        raise LabError("debootstrap is missing; `scripts/setup build` installs it")
    # An older debootstrap does not know the newest suites; they are all made as sid is.
    step(
        f"debootstrap of {suite}",
        [
            "unshare",
            "-m",
            "debootstrap",
            "--variant=minbase",
            f"--keyring={KEYRING}",
            *([f"--include={','.join(include)}"] if include else ()),
            suite,
            place,
            mirror(),
            "/usr/share/debootstrap/scripts/sid",
        ],
        BUILD_TIMEOUT_S,
    )


def debian_tree(place, suite, *installed):
    """Fill a directory with a small Debian that has these packages.

    No service of theirs is started.
    """
    bootstrap(suite, place)
    (place / "etc/apt/apt.conf.d/99nuage-lab").write_text(APT_CONFIGURATION)
    policy = place / "usr/sbin/policy-rc.d"  # no package may start a service
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    for words in (("update",), ("install", "-y", *installed), ("clean",)):
        command = [
            "unshare",
            "-m",
            "chroot",
            place,
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "LC_ALL=C",
            "apt-get",
            "-qq",
            *words,
        ]
        step(f"apt-get {words[0]} in the tree of {suite}", command, BUILD_TIMEOUT_S)
    shutil.rmtree(place / "var/lib/apt/lists")


def _fetch(package, suite, directory):
    download(suite, directory, package)
    archives = list(directory.glob("*.deb"))
    if len(archives) != 1:
        raise LabError(f"apt-get download {package} left {[path.name for path in archives]}")
    step(
        f"dpkg-deb -x {archives[0].name}",
        ["dpkg-deb", "-x", archives[0], directory],
        FETCH_TIMEOUT_S,
    )
    archives[0].unlink()


def step(name, argv, timeout, environment=None):
    """Run a command, and say how far it is while it runs.

    LabError with its name, the first of its lines that tells of an error, else its last one, and
    the file with all of them.
    """
    with tempfile.NamedTemporaryFile(prefix="nuage-lab-", suffix=".log", delete=False) as log:
        path = Path(log.name)
        try:
            with progress.doing(name, lambda: last_line(path)):
                done = run(argv, timeout=timeout, check=False, env=environment, output=log)
        except LabError as error:
            raise LabError(f"{name}: {error} (its output is in {path})") from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    if done.returncode:
        lines = [line.strip() for line in _lines(path) if line.strip()] or ["no message"]
        problem = next((line for line in lines if line.startswith("E:")), lines[-1])
        raise LabError(f"{name}: {problem} (its whole output is in {path})")
    path.unlink(missing_ok=True)


def last_line(path, length=90):
    """Return the end of what a program has written so far: its last line that is not blank."""
    lines = [line.strip() for line in _lines(path, 2000) if line.strip()] or [""]
    return lines[-1][:length]


def _lines(path, length=None):
    """Return the lines of a file's last length bytes."""
    data = path.read_bytes() if path.exists() else b""
    return data[-length if length else 0 :].decode(errors="replace").splitlines()
