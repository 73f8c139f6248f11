"""The command line as a process: what it answers, and with which status, when nothing is served."""

import os
import subprocess
import sys
import time

import pytest

from tests.support.appliance import PATIENCE_S, ROOT, encode

_MANAGED = {"NUAGE_MANAGED_PLUGIN": "yes"}


@pytest.fixture()
def configured(tmp_path):
    """A configuration file that can be used."""
    path = tmp_path / "nuage-libnetwork.yaml"
    lines = {
        "url": "https://vsd:8443",
        "logfile": tmp_path / "log",
        **{key: encode("csproot") for key in ("username", "password", "organization")},
    }
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return str(path)


def _start(*words, **environment):
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in ("CONFIG", "LOGLEVEL", *_MANAGED)
    }
    return subprocess.Popen(
        [sys.executable, "-m", "nuage_appliance", *words],
        cwd=ROOT,
        env={**inherited, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(*words, **environment):
    """The status, the output and the errors of one use."""
    process = _start(*words, **environment)
    output, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output, errors


def test_what_excludes_each_other_is_refused(configured):
    for verbs in (("-check", "-audit"), ("-audit", "-health"), ("-health", "-check")):
        status, output, errors = run("-config", configured, *verbs)
        assert (
            (status, output, errors.count("\n")) == (2, "", 1)
            and "exclude each other" in errors
            and all(verb in errors for verb in verbs)
        )


def test_without_a_configuration_file_nothing_is_done_whatever_the_environment_holds(configured):
    for words in ((), ("-check",), ("-health",)):
        assert run(*words, CONFIG=configured) == (
            2,
            "",
            "nuage-libnetwork: -config FILE is missing; see -help\n",
        )


def test_a_managed_plugin_reads_the_file_of_its_settings_unless_one_is_given(configured):
    assert run("-check", **_MANAGED, CONFIG=configured) == (
        0,
        f"nuage-libnetwork: {configured} can be used\n",
        "",
    )
    assert run("-check", "-config", configured, **_MANAGED, CONFIG="/none") == (
        0,
        f"nuage-libnetwork: {configured} can be used\n",
        "",
    )
    assert run("-check", **_MANAGED, CONFIG="") == (
        2,
        "",
        "nuage-libnetwork: -config FILE is missing; see -help\n",
    )
    status, _, errors = run("-check", **_MANAGED, CONFIG=configured, LOGLEVEL="loud")
    assert status == 2 and errors == (
        "nuage-libnetwork: LOGLEVEL: 'loud' is not known; it must be one of debug, info, "
        "warn, error\n"
    )


def test_a_managed_plugin_that_cannot_start_says_so_and_waits_for_its_engine_to_end_it():
    """Else the engine starts it again and again, and loses sight of it."""
    process = _start(**_MANAGED, CONFIG="/none.yaml")
    try:
        assert process.stderr.readline() == (
            "nuage-libnetwork: the configuration file /none.yaml cannot be read: No such file "
            "or directory\n"
        )
        time.sleep(1.0)
        assert process.poll() is None
        process.terminate()
        process.wait(PATIENCE_S)
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def test_elsewhere_a_start_that_cannot_be_ends_at_once():
    status, output, errors = run("-config", "/none.yaml")
    assert (status, output) == (2, "") and errors.endswith("No such file or directory\n")


def test_a_relative_path_without_a_current_directory_is_refused_in_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        [
            "sh",
            "-c",
            'rmdir "$PWD" && exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "nuage_appliance",
            "-config",
            "x.yaml",
            "-check",
        ],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (
        2,
        "",
        1,
    ) and "absolute path" in done.stderr


def test_nothing_that_serves_is_not_healthy_also_when_the_configuration_cannot_be_read(tmp_path):
    path = tmp_path / "nuage-libnetwork.yaml"
    path.write_text(
        f"plugindir: {tmp_path}\nstatussocket: {tmp_path}/status.sock\nurl: https://vsd\n"
        + "".join(
            f"{key}: {encode('csproot')}\n" for key in ("username", "password", "organization")
        )
    )
    status, output, errors = run("-health", "-config", str(path))
    assert (
        (status, output) == (1, "")
        and errors.startswith("nuage-libnetwork: not healthy: ")
        and f"{tmp_path}/status.sock" in errors
    )
    path.write_text("not: [yaml")
    status, output, errors = run("-health", "-config", str(path))
    assert (status, output, errors.count("\n")) == (
        1,
        "",
        1,
    ) and "/run/nuage-libnetwork/status.sock" in errors


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-config",), "-config needs the path of the configuration file"),
        (("-config=",), "-config needs the path of the configuration file"),
        (("-config", "-check"), "-config needs the path of the configuration file"),
        (("-conf", "x.yaml"), "the option '-conf' is not known; see -help"),
        (("---config=x",), "the option '---config=x' is not known; see -help"),
        (("--",), "the option '--' is not known; see -help"),
        (("x.yaml",), "'x.yaml' is not an option; nuage-libnetwork takes -config FILE"),
        (
            ("-config", "a", "--config=b"),
            "-config is given twice, as a and as b; give it once",
        ),
    ],
)
def test_a_wrong_use_is_refused_with_one_sentence(words, sentence):
    assert run(*words) == (2, "", f"nuage-libnetwork: {sentence}\n")


def test_one_dash_and_two_dashes_a_blank_and_an_equals_sign_mean_the_same(configured):
    for words in (
        ("-config", configured, "-check"),
        (f"-config={configured}", "--check"),
        ("--check", f"--config={configured}"),
        ("--config", configured, "--config", configured, "-check"),
    ):
        assert run(*words) == (0, f"nuage-libnetwork: {configured} can be used\n", "")
