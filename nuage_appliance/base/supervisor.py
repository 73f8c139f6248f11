"""Named greenlets that must live for ever: the first one that ends, ends the process.

So no half-dead appliance stays. Owns the long-lived greenlets and the order of stopping. Also
speaks systemd's notify protocol (sd_notify(3)).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable

import gevent
import gevent.event

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send systemd a state (`READY=1`, `STOPPING=1`, …); does nothing outside of systemd."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(path)
            channel.sendall(state.encode())
    except OSError as error:
        _log.debug("systemd was not notified of %s: %s", state, error)


def watchdog_s() -> float | None:
    """The watchdog interval that systemd asked for, in seconds, or None."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None


class Supervisor:
    """Runs named greenlets and remembers why the first one ended."""

    def __init__(self) -> None:
        self._greenlets: dict[str, gevent.Greenlet[..., None]] = {}
        self._end = gevent.event.Event()
        self._stopping = False
        self._status = 0

    def spawn(self, name: str, work: Callable[[], None]) -> None:
        """Start `work` as the greenlet `name`.

        Its end, in any way, ends the process with status 1.
        """
        greenlet = gevent.Greenlet(self._run, name, work)
        greenlet.name = name
        self._greenlets[name] = greenlet
        greenlet.start()

    def _run(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
            if not self._stopping:
                _log.error(
                    "the greenlet %s ended although it must live as long as the process", name
                )
        except Exception:
            if not self._stopping:
                _log.exception("the greenlet %s failed", name)
        if not self._stopping:
            self._status = 1
            self._end.set()

    def stop(self) -> None:
        """Ask for an orderly end: wait() returns.

        May be called from a signal handler, repeatedly.
        """
        self._end.set()

    def wait(self) -> int:
        """Block until stop() or until a greenlet ended; returns the exit status."""
        self._end.wait()
        self._stopping = True
        return self._status

    def kill_all(self, seconds: float = 2.0) -> None:
        """End all greenlets, waiting at most `seconds`."""
        self._stopping = True
        gevent.killall(list(self._greenlets.values()), block=True, timeout=seconds)
