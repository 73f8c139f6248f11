"""Runs first in the frozen program, and repairs three things.

PyInstaller's loader has unpacked the program into a directory. It waits, as the parent process, to
remove that directory at the end. Without this file,

* programs that we start would find the bundled libraries before their own;
* nobody would stop the program when only the loader is killed;
* nobody would ever remove the directory when both are killed.
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
# A directory that changed within this time may belong to a loader that is still unpacking.
_UNPACKING_S = 10.0


def _restore_environment():
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is None:
        os.environ.pop("LD_LIBRARY_PATH", None)
    else:
        os.environ["LD_LIBRARY_PATH"] = before


def _end_with_the_loader(home):
    """Stop in order, as after `kill`, when the loader dies, and remove what it would remove."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    loader = os.getppid()
    atexit.register(lambda: os.getppid() == loader or shutil.rmtree(home, ignore_errors=True))
    try:
        program = os.stat("/proc/self/exe")
        # A /proc of another PID namespace numbers its processes differently.
        if os.readlink("/proc/self") != str(os.getpid()):
            return
    except OSError:  # no /proc to look at
        return
    try:
        is_alive = os.path.samestat(os.stat(f"/proc/{loader}/exe"), program)
    except PermissionError:  # the loader belongs to another user
        return
    except OSError:
        is_alive = False
    if not is_alive:  # it died before prctl could ask for the signal
        shutil.rmtree(home, ignore_errors=True)
        signal.raise_signal(signal.SIGTERM)


def _remove_what_was_left(home):
    """Remove the directories of programs that were killed together with their loaders.

    A running program holds a lock on its own directory.
    """
    held = os.open(home, os.O_RDONLY | os.O_DIRECTORY)  # open as long as this process lives
    fcntl.flock(held, fcntl.LOCK_SH)
    for entry in os.scandir(os.path.dirname(home)):
        if not entry.name.startswith("_MEI") or entry.path == home:
            continue
        if not entry.is_dir(follow_symlinks=False):
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
