"""Runs commands and waits, always with a limit. Owns nothing."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time


class LabError(RuntimeError):
    """The lab could not do what was asked; the text says what and where to look."""


def run(argv, *, input=None, timeout=30.0, check=True, env=None, output=None, name=None):
    """Run argv to its end and return a CompletedProcess with text output.

    The command is the leader of a session of its own, so that at the time limit all of it is
    killed. output is an open file for what it writes, which the result then lacks. name is what an
    error calls the command, instead of all its words. Raises LabError when check is true and the
    command fails, and at the time limit in any case.
    """
    argv = [str(word) for word in argv]
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    stdout, stderr = (
        (subprocess.PIPE, subprocess.PIPE) if output is None else (output, subprocess.STDOUT)
    )
    try:
        process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
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
        raise LabError(f"no end after {timeout:g} s: {name or ' '.join(argv)}") from error
    finally:
        if process.poll() is None:
            kill_session(process)
    stdout, stderr = stdout or "", stderr or ""
    if check and process.returncode:
        message = (stderr.strip() or stdout.strip() or "no message")[-2000:]
        raise LabError(f"exit status {process.returncode}: {name or ' '.join(argv)}: {message}")
    return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)


def kill_session(process):
    """Kill a Popen that leads its own session, with all that is still in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
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
