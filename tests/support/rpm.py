"""Packages made by the tests, and a root of its own in which the machine's rpm and dnf install
packages.

The root has busybox for its programs, the libraries that the frozen program needs, and a systemctl
that notes what it is told: the packages' scripts really run. Nothing is ever done to the machine's
own package database.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.support.appliance import PATIENCE_S

_APPLETS = (
    "sh",
    "cat",
    "chmod",
    "cp",
    "echo",
    "false",
    "grep",
    "ls",
    "mkdir",
    "mv",
    "printf",
    "rm",
    "rmdir",
    "true",
    "touch",
)
_DIRECTORIES = (
    "usr/bin",
    "usr/lib64",
    "usr/lib/systemd/system",
    "usr/lib/systemd/system-preset",
    "usr/share/man/man8",
    "usr/share/doc",
    "usr/share/licenses",
    "usr/share/bash-completion/completions",
    "var/lib/rpm-state",
    "var/log",
    "var/tmp",
    "run",
    "tmp",
    "root",
    "dev",
    "etc/default",
    "etc/systemd/system/multi-user.target.wants",
)
# What RHEL 8 has: a package that wants more cannot be installed there.
_GLIBC = ["2.2.5", "2.3", "2.3.2", "2.3.3", "2.3.4", *(f"2.{minor}" for minor in range(4, 29))]
_ZLIB = [
    "1.2.0",
    "1.2.0.2",
    "1.2.0.8",
    "1.2.2",
    "1.2.2.3",
    "1.2.2.4",
    "1.2.3.3",
    "1.2.3.4",
    "1.2.3.5",
    "1.2.5.1",
    "1.2.5.2",
    "1.2.7.1",
    "1.2.9",
]
_LIBRARIES = {
    "libc.so.6": ("GLIBC", _GLIBC),
    "libdl.so.2": ("GLIBC", _GLIBC),
    "libpthread.so.0": ("GLIBC", _GLIBC),
    "libm.so.6": ("GLIBC", _GLIBC),
    "libz.so.1": ("ZLIB", _ZLIB),
}
_SYSTEMCTL = """#!/bin/sh
# Notes what it is told. Only what the packages' scripts can see of it afterwards is done.
printf '%s\\n' "$*" >>/systemctl.log
[ ! -e /systemctl-fails ] || exit 1
for word in "$@"; do
    case $word in
        disable) rm -f /etc/systemd/system/*.wants/nuage-libnetwork.service ;;
        stop | --now) rm -f /is-active ;;
        is-active) [ -e /is-active ] || exit 3 ;;
    esac
done
"""
CONFIG = "etc/default/nuage-libnetwork.yaml"
UNIT = "usr/lib/systemd/system/nuage-libnetwork.service"
GO_UNIT_FILE = "etc/systemd/system/nuage-libnetwork.service"

# The predecessor, as far as it is known: the same package and files, and its unit in /etc. How
# careful its scripts are, is not known.
GO_UNIT = (
    "[Service]\nType=simple\nExecStart=/usr/bin/nuage-libnetwork -config "
    "/etc/default/nuage-libnetwork.yaml\n"
    "[Install]\nWantedBy=multi-user.target\n"
)
GO_SAMPLE = (
    'scope: "global"\nusername: Y3Nwcm9vdA==\npassword: Y3Nwcm9vdA==\norganization: Y3Nw\nurl: '
    "https://198.51.100.7:8443\n"
)
GO_SCRIPTS = {
    "careful": (
        '%preun\nif [ "$1" = 0 ]; then systemctl disable nuage-libnetwork; systemctl stop '
        "nuage-libnetwork; fi"
    ),
    "careless": (
        "%preun\nsystemctl stop nuage-libnetwork\nsystemctl disable nuage-libnetwork\n%postun\n"
        "systemctl daemon-reload"
    ),
    "none": "",
}


def run(*words, directory=None, **environment):
    """A command that must succeed; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, (
        f"{words} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    )
    return done.stdout


def ask(root, *words, database="/var/lib/rpm", around=()):
    """What the machine's rpm says, run by the command `around` on the files below `root`: without
    Debian's reminder to use alien.
    """
    argv = map(str, [*around, "rpm", "--root", root, "--dbpath", database, *words])
    done = subprocess.run(
        list(argv),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    said = "".join(
        line for line in done.stdout.splitlines(keepends=True) if not line.startswith("rpm: ")
    )
    assert done.returncode == 0, f"rpm {words} ended with {done.returncode}: {said}"
    return said


def query(package, *options):
    """The lines of `rpm -qp …`."""
    return run("rpm", "-qp", *options, package).splitlines()


def build_package(spec, directory, sources=()):
    """Have rpmbuild make the binary package of a spec's text; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "SOURCES").mkdir(exist_ok=True)
    for source in sources:
        shutil.copy(source, directory / "SOURCES")
    (directory / "package.spec").write_text(spec)
    run(
        "rpmbuild",
        "-bb",
        "--define",
        f"_topdir {directory}",
        "--define",
        f"_dbpath {directory}/db",
        directory / "package.spec",
        HOME=str(directory),
    )
    return next((directory / "RPMS").rglob("*.rpm"))


def base_package(directory):
    """A package that stands for the parts of RHEL 8 which ours may need."""
    symbols = [
        f"{library}({version})(64bit)"
        for library, (family, versions) in _LIBRARIES.items()
        for version in ("", *(f"{family}_{number}" for number in versions))
    ]
    provides = [
        "glibc = 2.28-1",
        "zlib = 1.2.11-1",
        "systemd = 239-1",
        "coreutils",
        "grep",
        "/bin/sh",
        "rtld(GNU_HASH)",
        *symbols,
    ]
    return build_package(
        "\n".join(
            [
                "Name: base",
                "Version: 8",
                "Release: 1",
                "Summary: base",
                "License: none",
                "BuildArch: noarch",
                *(f"Provides: {name}" for name in provides),
                "%description",
                "base",
                "%files",
                "",
            ]
        ),
        directory,
    )


def go_plugin(
    directory,
    config_is="%config",
    scripts="",
    program="#!/bin/sh\n[ $# = 2 ] || { echo flag provided but not defined >&2; exit 2; }\n",
):
    """Its package, made for the test; `config_is` is how it marks the configuration."""
    files = {"usr/bin/nuage-libnetwork": program, GO_UNIT_FILE: GO_UNIT, CONFIG: GO_SAMPLE}
    lines = [
        "Name: nuage-libnetwork",
        "Version: 5.4.1",
        "Release: 1",
        "Summary: go",
        "License: none",
        "%description",
        "go",
        "%install",
    ]
    for name, text in files.items():
        lines += [
            f'mkdir -p "$RPM_BUILD_ROOT/{os.path.dirname(name)}"',
            f"cat >\"$RPM_BUILD_ROOT/{name}\" <<'END'",
            text + "END",
        ]
    lines += [
        scripts,
        "%files",
        "%attr(755,-,-) /usr/bin/nuage-libnetwork",
        f"/{GO_UNIT_FILE}",
        f"{config_is} %attr(644,-,-) /{CONFIG}",
        "",
    ]
    return build_package("\n".join(lines), directory)


def unpack(package, directory):
    """The files of a package, below `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory.parent / f"{directory.name}.cpio"
    with open(archive, "wb") as stream:
        subprocess.run(
            ["rpm2cpio", str(package)],
            stdout=stream,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE_S,
        )
    with open(archive, "rb") as stream:
        subprocess.run(
            ["cpio", "-idm", "--quiet"], stdin=stream, cwd=directory, check=True, timeout=PATIENCE_S
        )
    archive.unlink()
    return directory


def repackaged(source_package, version, directory, extra=""):
    """The package of another version, of the same program and the same spec; `extra` are lines at
    the end of its %install.
    """
    content = unpack(source_package, directory / "content")
    spec = (content / "nuage-libnetwork.spec").read_text()
    spec = re.sub(r"^Version: .*", f"Version: {version}", spec, flags=re.MULTILINE).replace(
        "\n%pre\n", f"\n{extra}\n%pre\n", 1
    )
    source = next(content.glob("*.tar.gz"))
    source = source.rename(content / f"nuage-libnetwork-{version}.tar.gz")
    package = build_package(spec, directory, [source])
    shutil.rmtree(content)
    return package


class Root:
    """A directory that rpm and dnf take for a whole system, with the package `base` installed in it
    when there is one.
    """

    def __init__(self, directory, base, binary, *, has_systemd=True):
        """Without `has_systemd` no systemd runs there, as when an image is built; systemctl is
        there all the same.
        """
        self.path = Path(directory)
        for name in _DIRECTORIES:
            (self.path / name).mkdir(parents=True)
        self.write("dev/null", "")
        for link, target in (("bin", "usr/bin"), ("lib64", "usr/lib64")):
            (self.path / link).symlink_to(target)
        shutil.copy(shutil.which("busybox"), self.path / "usr/bin/busybox")
        for applet in _APPLETS:
            (self.path / "usr/bin" / applet).symlink_to("busybox")
        self.write("usr/bin/systemctl", _SYSTEMCTL, 0o755)
        for library in libraries(binary):
            target = self.path / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(library), target)
        if has_systemd:
            (self.path / "run/systemd/system").mkdir(parents=True)
        if base:
            self.rpm("-i", base)
        self._before = self.files()

    def write(self, name, text, mode=0o644):
        """Write a file of the root."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def read(self, name):
        """The text of a file of the root."""
        return (self.path / name).read_text()

    def exists(self, name):
        """True when there is such a file or link, also a dangling one."""
        return os.path.lexists(self.path / name)

    def mode(self, name):
        """The mode of a file of the root, such as 0o640."""
        return (self.path / name).stat().st_mode & 0o7777

    def files(self):
        """All names below the root but the package database's and what systemctl noted."""
        names = {str(path.relative_to(self.path)) for path in self.path.rglob("*")}
        return {
            name
            for name in names
            if not name.startswith(("var/lib/rpm/", "systemctl.log", "is-active"))
        }

    def news(self):
        """Names that were not there when the root was made."""
        return self.files() - self._before

    def rpm(self, *words):
        """Run the machine's rpm on this root; returns what it and the packages' scripts said."""
        return ask(self.path, *words)

    def dnf(self, *words):
        """Run the machine's dnf on this root and its one repository; returns what it said."""
        return run(
            "dnf",
            "-y",
            "--noplugins",
            "--installroot",
            self.path,
            "--releasever",
            "8",
            f"--setopt=reposdir={self.path}/etc/yum.repos.d",
            f"--setopt=cachedir={self.path}/var/cache/dnf",
            *words,
            HOME="/root",
        )

    def told(self):
        """What systemctl was told since this was asked the last time."""
        log = self.path / "systemctl.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


def libraries(binary):
    """The libraries that the frozen program takes from its host: those that it names, and the C
    library's others.
    """
    linked = re.findall(r"/\S+", run("ldd", binary))
    home = Path(next(name for name in linked if name.endswith("/libc.so.6"))).parent
    others = [
        home / name
        for name in (
            "libm.so.6",
            "libdl.so.2",
            "libpthread.so.0",
            "librt.so.1",
            "libutil.so.1",
            "libresolv.so.2",
        )
    ]
    return sorted({*linked, *(str(path) for path in others if path.exists())})
