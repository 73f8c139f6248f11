"""Runs first in the frozen program. PyInstaller's loader has unpacked it into a directory and waits, as its parent, to remove that at the end.

It makes good three things: programs that are started would find the bundled libraries before their own; when the loader alone is killed,
nobody would stop the program; and when both are killed, nobody would ever remove the directory.
"""

import atexit
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1  # prctl(2)
_UNPACKING_S = 10.0  # a directory that changed within this time may still be filled by a loader that has not started its program yet


def _restore_environment():
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is None:
        os.environ.pop("LD_LIBRARY_PATH", None)
    else:
        os.environ["LD_LIBRARY_PATH"] = before


def _end_with_the_loader(home):
    """Stop in order, as by `kill`, when the loader dies; then remove what it would have removed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    loader = os.getppid()
    atexit.register(lambda: os.getppid() == loader or shutil.rmtree(home, ignore_errors=True))
    try:
        program = os.stat("/proc/self/exe")
        if os.readlink("/proc/self") != str(
            os.getpid()
        ):  # it is of another pid namespace, and counts otherwise
            return
    except OSError:  # no /proc to look at
        return
    try:
        is_alive = os.path.samestat(os.stat(f"/proc/{loader}/exe"), program)
    except PermissionError:  # not this user's to look at
        return
    except OSError:
        is_alive = False
    if not is_alive:  # it died before it was asked for
        shutil.rmtree(home, ignore_errors=True)
        signal.raise_signal(signal.SIGTERM)


def _remove_what_was_left(home):
    """Remove the directories of programs that were killed together with their loaders. A running one holds a lock on its own."""
    held = os.open(home, os.O_RDONLY | os.O_DIRECTORY)  # for as long as this process lives
    fcntl.flock(held, fcntl.LOCK_SH)
    for entry in os.scandir(os.path.dirname(home)):
        if (
            not entry.name.startswith("_MEI")
            or entry.path == home
            or not entry.is_dir(follow_symlinks=False)
        ):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
            if status.st_uid != os.geteuid() or abs(time.time() - status.st_mtime) < _UNPACKING_S:
                continue
            other = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # it went meanwhile
            continue
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(other)


# As nuage_appliance/__main__.py does it, which is reached later.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))
_restore_environment()
_end_with_the_loader(sys._MEIPASS)
_remove_what_was_left(sys._MEIPASS)
