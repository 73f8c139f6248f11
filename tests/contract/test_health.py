"""`-health`: whether the appliance serves, which says nothing of its backends."""

import os
import signal
import subprocess

from tests.support.appliance import PATIENCE_S, ROOT


def ask(host):
    """The status, the output and the errors of `-health`."""
    done = subprocess.run(
        host.appliance.command("-health"),
        cwd=ROOT,
        env=host.appliance.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_appliance_that_serves_is_healthy_also_when_backends_are_away(shared_host, simulator):
    status, output, errors = ask(shared_host)
    assert (status, errors, output.count("\n")) == (0, "", 1)
    assert (
        all(path in output for path in shared_host.appliance.sockets) and "problems" not in output
    )
    shared_host.api.stop()
    try:
        shared_host.appliance.wait_until(
            lambda: shared_host.appliance.status()["components"]["engine"]["problem"],
            what="that the engine is missed",
        )
        status, output, errors = ask(shared_host)
        assert (status, errors, output.count("\n")) == (
            0,
            "",
            1,
        ) and "it has problems: engine: " in output
    finally:
        shared_host.api.start()


def test_an_appliance_that_stands_still_is_not_healthy_and_is_given_up_soon(shared_host):
    shared_host.appliance.process.send_signal(signal.SIGSTOP)
    try:
        status, output, errors = ask(shared_host)
    finally:
        shared_host.appliance.process.send_signal(signal.SIGCONT)
    assert (
        (status, output, errors.count("\n")) == (1, "", 1)
        and "not healthy" in errors
        and "status.sock" in errors
    )
    assert ask(shared_host)[0] == 0


def test_an_appliance_that_the_engine_cannot_reach_is_not_healthy(shared_host):
    for path in shared_host.appliance.sockets:
        os.rename(path, f"{path}.away")
        try:
            assert ask(shared_host) == (
                1,
                "",
                f"nuage-libnetwork: not healthy: the engine cannot reach {path}\n",
            )
        finally:
            os.rename(f"{path}.away", path)
    assert ask(shared_host)[0] == 0
