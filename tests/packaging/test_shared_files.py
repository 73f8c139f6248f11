"""What every package installs beside the program: the sample configuration, the manual page, the
completion, and how they are laid out.
"""

import base64
import dataclasses
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest
import yaml

from nuage_appliance.config import Config, parse
from tests.support.appliance import PATIENCE_S, ROOT

SAMPLE = ROOT / "rpmbuild" / "nuage-libnetwork.yaml"
MANUAL = ROOT / "rpmbuild" / "nuage-libnetwork.8"
COMPLETION = ROOT / "rpmbuild" / "nuage-libnetwork.bash"
_PROGRAM = [sys.executable, "-m", "nuage_appliance"]
_KEYS = [field.name for field in dataclasses.fields(Config) if field.name != "warnings"]
_BLANKS = {
    "url": "https://vsd.example.com:8443",
    "username": "Y3Nwcm9vdA==",
    "password": "Y3Nwcm9vdA==",
    "organization": "Y3Nw",
}


def said(*words):
    """What the program says to some options."""
    return subprocess.run(
        [*_PROGRAM, *words], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )


def filled():
    """The sample with its blanks filled in, as an administrator does."""
    return re.sub(
        r"^(\w+):$",
        lambda found: f"{found[1]}: {_BLANKS[found[1]]}",
        SAMPLE.read_text(),
        flags=re.MULTILINE,
    )


def everything():
    """The filled sample with each key that is commented out put in force."""
    return re.sub(r"^#(?=\w+:)", "", filled(), flags=re.MULTILINE)


# --- the sample configuration


def test_the_shipped_configuration_names_every_key_once():
    named = re.findall(r"^#?(\w+):", SAMPLE.read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(_KEYS)


def test_the_shipped_configuration_shows_the_defaults():
    shown, defaults = parse(everything()), parse(yaml.safe_dump(_BLANKS))
    for key in _KEYS:
        if getattr(defaults, key) not in ("", None):
            assert getattr(shown, key) == getattr(defaults, key), key


def test_the_shipped_configuration_is_refused_with_one_line_until_it_is_filled_in():
    done = said("-config", str(SAMPLE), "-check")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"nuage-libnetwork: {SAMPLE}: url: the key is missing or empty; write https://HOST:8443\n"
    )


def test_the_shipped_configuration_holds_no_credential():
    assert {key: yaml.safe_load(SAMPLE.read_text())[key] for key in _BLANKS} == dict.fromkeys(
        _BLANKS
    )


@pytest.mark.parametrize("text", [filled, everything])
def test_with_the_blanks_filled_the_shipped_configuration_can_be_used(text, tmp_path):
    path, ca = tmp_path / "nuage-libnetwork.yaml", tmp_path / "ca.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=ca",
            "-keyout",
            str(tmp_path / "ca.key"),
            "-out",
            str(ca),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    path.write_text(re.sub(r'"/etc/pki/.*"', str(ca), text()))
    done = said("-config", str(path), "-check")
    assert (done.returncode, done.stdout) == (0, f"nuage-libnetwork: {path} can be used\n")
    warnings = [
        line
        for line in done.stderr.splitlines()
        if "the token crosses the network in clear text" not in line
    ]
    assert warnings == []


def test_the_way_to_base64_that_the_shipped_configuration_tells_is_right():
    command = re.search(r"as `(.*)` prints it", SAMPLE.read_text())[1].replace("VALUE", "csproot")
    printed = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE_S
    ).stdout
    assert base64.b64decode(printed) == b"csproot"


# --- the manual page


def options():
    """The options that the program itself tells."""
    return re.findall(r"^  (-\w+)", said("-help").stdout, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "command",
    [["mandoc", "-T", "lint"], ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]],
    ids=["mandoc", "man"],
)
def test_the_manual_page_is_clean(command):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [*command, str(MANUAL)],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    complaints = done.stderr if command[0] == "man" else done.stdout + done.stderr
    assert (done.returncode, complaints) == (0, "")


def test_the_manual_page_has_every_option_signal_and_required_key():
    text = MANUAL.read_text().replace("\\", "")
    operations = (ROOT / "docs" / "OPERATIONS.md").read_text()
    wanted = {*options(), *re.findall(r"`(SIG\w+)`", operations), *_BLANKS}
    assert len(wanted) >= 14
    assert sorted(word for word in wanted if word not in text) == []


def test_the_manual_page_names_the_files_of_the_defaults():
    text = MANUAL.read_text()
    for path in (
        Config.logfile,
        Config.statedir,
        Config.statussocket,
        f"{Config.plugindir}/nuage.sock",
        f"{Config.plugindir}/nuage-ipam.sock",
    ):
        assert path in text


# --- the completion


def completed(*words):
    """What the completion offers for the last of the words of a command line."""
    script = (
        f'. "{COMPLETION}"; COMP_WORDS=(nuage-libnetwork "$@"); COMP_CWORD=$#; _nuage_libnetwork; '
        f'printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=ROOT / "rpmbuild",
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_the_completion_offers_every_option_of_the_program():
    assert completed("") == options() and len(options()) >= 5
    assert completed("--c") == ["--config", "--check"]


@pytest.mark.parametrize(
    "words",
    [
        ["-config", "nuage-libnetwork.y"],
        ["--config", "nuage-libnetwork.y"],
        ["-config", "=", "nuage-libnetwork.y"],
    ],
)
def test_the_completion_offers_files_for_the_configuration(words):
    assert completed(*words) == ["nuage-libnetwork.yaml"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["-version", ""], []),
        (["-config", "=", "f", "-a"], ["-audit"]),
        (["-config", "f", "-ch"], ["-check"]),
    ],
)
def test_the_completion_goes_on_after_a_value_and_ends_after_the_version(words, offered):
    assert completed(*words) == offered


def test_the_tabulator_completes_in_an_interactive_bash(tmp_path):
    (tmp_path / "site.yaml").write_text("")
    child, terminal = pty.fork()
    if child == 0:
        try:
            os.chdir(tmp_path)
            os.execvpe(
                "bash",
                ["bash", "--norc", "--noprofile", "-i"],
                {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "", "HISTFILE": ""},
            )
        finally:
            os._exit(127)  # a second pytest must not come out of this
    heard = b""

    def type_and_hear(text, wanted):
        nonlocal heard
        os.write(terminal, text.encode())
        deadline = time.monotonic() + PATIENCE_S
        while wanted.encode() not in heard:
            ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"bash did not show {wanted!r}, but {heard!r}"
            heard += os.read(terminal, 4096)
        heard = b""

    try:
        type_and_hear(f". {COMPLETION}; echo rea''dy\n", "ready\r\n")
        type_and_hear("nuage-libnetwork -co\t", "-config ")
        type_and_hear("si\t", "site.yaml ")
        type_and_hear("-au\t", "-audit ")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


# --- the layout


def test_all_files_of_a_package_are_laid_out_with_their_modes_whatever_the_umask(binary, tmp_path):
    tree = tmp_path / "tree"
    subprocess.run(
        ["sh", "-c", f'umask 077; exec "{ROOT}/build/stage-files" "{tree}"'],
        check=True,
        timeout=PATIENCE_S,
    )
    modes = {
        str(path.relative_to(tree)): oct(path.stat().st_mode & 0o7777) for path in tree.rglob("*")
    }
    special = {
        "etc/default/nuage-libnetwork.yaml": "0o640",
        "usr/bin/nuage-libnetwork": "0o755",
        "var/lib/nuage-libnetwork": "0o750",
        "var/log/nuage-libnetwork": "0o750",
    }
    for path, mode in modes.items():
        assert mode == special.get(path, "0o755" if (tree / path).is_dir() else "0o644"), path
    assert set(special) <= set(modes)
    assert (tree / "usr/bin/nuage-libnetwork").read_bytes() == binary.read_bytes()


def test_the_links_between_the_installed_documents_lead_somewhere(binary, tmp_path):
    subprocess.run(
        [str(ROOT / "build" / "stage-files"), str(tmp_path)], check=True, timeout=PATIENCE_S
    )
    documents = tmp_path / "usr/share/doc/nuage-libnetwork"
    links = {
        name
        for page in documents.glob("*.md")
        for name in re.findall(r"\]\((\w[^)#:]*)", page.read_text())
    }
    assert links and not [name for name in links if not (documents / name).exists()]


@pytest.mark.parametrize("words", [[], [""], ["-h"], ["a", "b"]])
def test_the_layout_wants_one_directory(words):
    done = subprocess.run(
        [str(ROOT / "build" / "stage-files"), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stderr) == (2, "usage: build/stage-files DESTDIR\n")
