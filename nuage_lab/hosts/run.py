"""Runs commands and waits, always with a limit. Owns nothing."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time


class LabError(RuntimeError):
    """The lab could not do what was asked; the text says what and where to look."""


def run(argv, *, input=None, timeout=30.0, check=True, env=None):
    """Run argv to its end and return a CompletedProcess with text output.

    The command is the leader of a session of its own, so that at the time limit all of it is killed.
    Raises LabError when check is true and the command fails, and at the time limit in any case.
    """
    argv = [str(word) for word in argv]
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    try:
        process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env=env,
        )
    except OSError as error:
        raise LabError(f"cannot run {argv[0]}: {error.strerror}") from error
    try:
        stdout, stderr = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end after {timeout:g} s: {' '.join(argv)}") from error
    finally:
        if process.poll() is None:
            kill_session(process)
    if check and process.returncode:
        said = (stderr.strip() or stdout.strip() or "no message")[-2000:]
        raise LabError(f"exit status {process.returncode}: {' '.join(argv)}: {said}")
    return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)


def kill_session(process):
    """Kill a Popen that leads its own session, with all that is still in its process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def wait_until(fact, timeout, what, pause=0.02):
    """Call fact until it is true and return its value; LabError after timeout seconds.

    Facts are mostly commands, which cost: the longer it waits, the less often it asks, and it
    never asks more than half of the time. It ends at most a twentieth too late.
    """
    begun = time.monotonic()
    end = begun + timeout
    while True:
        asked = time.monotonic()
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {timeout:g} s in vain: {what}")
        now = time.monotonic()
        time.sleep(max(pause, min(max(now - asked, (now - begun) / 20), 0.25)))


@contextlib.contextmanager
def locked(path, timeout):
    """Hold a file's lock; LabError when somebody else has it for timeout seconds."""
    with open(path, "w", encoding="ascii") as file:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise LabError(f"another command has held {path} for {timeout:g} s") from None
                time.sleep(0.1)
        yield
