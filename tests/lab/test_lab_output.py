"""What scripts/lab makes of words and of the simulator's tree, and prints while one waits."""

import errno
import os
import re
import time
from types import SimpleNamespace

import pytest

from nuage_lab import __main__ as command_line
from nuage_lab import image, packages
from nuage_lab.hosts import progress
from nuage_lab.hosts.daemon import Daemon
from nuage_lab.hosts.run import LabError, run

TREE = {
    "enterprises": [
        {
            "name": "Acme",
            "domains": [
                {
                    "name": "Prod",
                    "zones": [
                        {
                            "name": "Zone",
                            "subnets": [{"name": "A", "vports": []}, {"name": "B", "vports": []}],
                        }
                    ],
                },
                {"name": "Test", "zones": [{"name": "Zone", "subnets": []}]},
            ],
            "l2domains": [{"name": "Prod", "address": "10.0.0.0"}],
        },
        {"name": "Other", "domains": []},
    ]
}


def shown(path):
    return command_line.lines_of(command_line.branch(TREE, path))


def test_a_path_shows_what_leads_there_and_what_is_below():
    assert shown("Acme/Prod/Zone/B") == [
        "enterprise 'Acme'",
        "  domain 'Prod'",
        "    zone 'Zone'",
        "      subnet 'B'",
    ]
    assert "      subnet 'A'" in shown("Acme/Prod/Zone")
    assert shown("Other") == ["enterprise 'Other'"]


def test_a_name_of_two_kinds_shows_both_and_a_longer_path_the_one_that_goes_on():
    assert shown("Acme/Prod")[-1] == "  l2domain 'Prod' address=10.0.0.0"
    assert not [line for line in shown("Acme/Prod/Zone") if "l2domain" in line]


@pytest.mark.parametrize(
    "path, text",
    [
        ("Nope", "no 'Nope' there; it has Acme, Other"),
        ("Acme/Nope", "no 'Nope' there; it has Prod, Test, Prod"),
        ("Acme/Test/Zone/A", "no 'A' there; it has nothing"),
    ],
)
def test_a_path_that_is_not_there_is_an_error_that_names_what_is(path, text):
    with pytest.raises(LabError, match=re.escape(text)):
        command_line.branch(TREE, path)


@pytest.mark.parametrize(
    "word, value",
    [("5", 5), ("true", True), ("false", False), ("", None), ("global", "global"), ("1.5", "1.5")],
)
def test_a_configured_value_has_the_type_that_it_looks_like(word, value):
    assert command_line.yaml_value(word) == value
    assert type(command_line.yaml_value(word)) is type(value)


def test_a_full_disk_names_the_place_and_a_way_out():
    lab = SimpleNamespace(state="/var/lib/lab", is_up=lambda: False)
    full = command_line.explained(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), lab)
    assert full == (
        "/var/lib/lab: No space left on device; "
        "make room there, or keep the lab elsewhere with --state"
    )
    absent = command_line.explained(FileNotFoundError(errno.ENOENT, "No such file", "/x"), lab)
    assert absent.endswith("(the lab is down; `scripts/lab up` starts it)")
    lab.is_up = lambda: True
    assert "down" not in command_line.explained(ConnectionRefusedError(111, "refused"), lab)


# -- progress


def test_one_who_waits_sees_what_is_done_and_how_far_it_is():
    lines = []
    with progress.Ticker(lines.append, pause_s=0.05):
        with progress.doing("h1: engine"), progress.doing("fetching", lambda: "file 3"):
            time.sleep(0.3)
        assert progress.now() == ""
    assert len(lines) >= 2
    assert all(line.endswith("s  h1: engine, fetching: file 3") for line in lines)


def test_nothing_is_added_while_other_lines_come_and_when_nothing_is_done():
    lines = []
    with progress.Ticker(lines.append, pause_s=0.5):
        with progress.doing("something"):
            for _ in range(10):
                progress.announce("a line")
                time.sleep(0.1)
        time.sleep(0.6)
    assert lines == ["a line"] * 10
    progress.announce("nobody waits any more")
    assert len(lines) == 10


def test_a_step_that_fails_names_its_error_and_the_file_with_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(LabError, match=r"update: E: no such suite \(its whole output is in ") as no:
        packages.step("update", ["sh", "-c", "echo one; echo E: no such suite >&2; exit 100"], 10.0)
    (log,) = tmp_path.iterdir()
    assert str(log) in str(no.value) and log.read_text() == "one\nE: no such suite\n"
    log.unlink()
    packages.step("update", ["true"], 10.0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(LabError, match=r"update: no end after 0\.1 s: sleep 9"):
        packages.step("update", ["sleep", "9"], 0.1)


def test_the_last_line_of_an_output_is_shortened_and_blank_ones_are_skipped(tmp_path):
    path = tmp_path / "log"
    assert packages.last_line(path) == ""
    path.write_text("first\n" + "x" * 200 + "\n\n  \n")
    assert packages.last_line(path) == "x" * 90


# -- the Debian archive


@pytest.mark.parametrize(
    "listed, address",
    [
        ("http://deb.debian.org/debian/ main Debian\n", "http://deb.debian.org/debian"),
        ("http://one.example/debian main\n", "http://one.example/debian"),
        ("http://one.example/debian contrib Debian\n", None),
        ("http://archive.example/ubuntu main Ubuntu\n\nhttp://cloud.example/apt main\n", None),
        ("", None),
    ],
)
def test_the_archive_is_what_apt_knows_as_debians(listed, address):
    assert packages.archive_of(listed) == address


def test_without_a_debian_archive_in_apt_the_usual_one_is_taken(monkeypatch, tmp_path):
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho http://archive.example/ubuntu main Ubuntu\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("NUAGE_LAB_MIRROR", raising=False)
    assert packages.mirror() == packages.DEBIAN_ARCHIVE
    monkeypatch.setenv("NUAGE_LAB_MIRROR", "http://mirror.example/debian")
    assert packages.mirror() == "http://mirror.example/debian"


def test_without_debians_keys_nothing_is_fetched_and_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "KEYRING", str(tmp_path / "none.gpg"))
    for fetch in (
        lambda: packages.download("bookworm", tmp_path, "consul"),
        lambda: packages.bootstrap("bookworm", tmp_path / "tree"),
    ):
        with pytest.raises(LabError, match="install the package debian-archive-keyring"):
            fetch()
    assert not list(tmp_path.iterdir())


# -- programs of a host


def test_the_end_of_a_log_is_whole_lines(tmp_path):
    daemon = Daemon(SimpleNamespace(log=tmp_path), "thing", ["true"], lambda: True)
    assert daemon.tail() == ""
    (tmp_path / "thing.log").write_text("".join(f"line {number}\n" for number in range(1000)))
    lines = daemon.tail(lines=500).splitlines()
    assert lines[-1] == "line 999" and len(lines) > 100
    assert all(re.fullmatch(r"line \d+", line) for line in lines)
    assert daemon.tail().splitlines() == [f"line {number}" for number in range(988, 1000)]


def test_a_failed_command_is_called_by_its_name(monkeypatch):
    with pytest.raises(LabError, match=r"^exit status 3: on h1: docker ps: no engine$"):
        run(["sh", "-c", "echo no engine >&2; exit 3"], name="on h1: docker ps")


def test_the_page_of_the_image_names_its_container(tmp_path, monkeypatch):
    """The program of the image, run here with a hostname of its own."""
    script = image.PROGRAMS["bin/serve"].replace("/www", str(tmp_path))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "hostname": '[ "${1:-}" = -i ] && echo 10.1.2.3 || echo web-1',
        "httpd": "exec sleep 2 >/dev/null 2>&1",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    start = time.monotonic()
    run(["sh", "-c", f"{script.replace('wait', 'kill -TERM $$; wait')}"], timeout=20.0)
    assert time.monotonic() - start < 10.0, "SIGTERM ends it"
    assert (tmp_path / "index.html").read_text() == "This page comes from web-1, 10.1.2.3\n"
