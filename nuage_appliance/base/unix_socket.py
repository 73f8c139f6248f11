"""A unix socket to listen at: bound for its owner alone, a stale one replaced, a foreign one left.

Owns the socket's file from bind() to remove(). A process that was killed leaves the file behind,
and whoever binds to it then gets "address in use". So what is there is looked at first: a file that
is not a socket is somebody else's, a socket that accepts a connection belongs to a living process,
and a socket that refuses it is left over and is removed. After the bind the file's inode number is
kept: at the end only that very file is removed, since another process may have put its own in its
place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from nuage_appliance.base.faults import Refused

_PROBE_S = 2.0
_DIRECTORY_MODE = 0o755
_UMASK = 0o177


def is_served(path: str) -> bool:
    """True when a process accepts connections on a unix socket. Switches greenlets."""
    return _why_not_served(path) is None


def _why_not_served(path: str) -> OSError | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except OSError as error:
            return error
    return None


class UnixSocket:
    """The socket at `path`; `what` names it in messages, such as `plugin socket`."""

    def __init__(self, what: str, path: str) -> None:
        self.path = path
        self._name = f"the {what} {path}"
        self._inode: int | None = None

    def bind(self, backlog: int) -> socket.socket:
        """Bind and listen, and return the listening socket; only the owner may connect.

        Makes the directory if it is missing, and replaces a socket that nobody serves. Raises
        Refused for a live one, for a file that is not a socket, and when the socket cannot be made.
        Switches greenlets.
        """
        try:
            os.makedirs(os.path.dirname(self.path), mode=_DIRECTORY_MODE, exist_ok=True)
            self.remove_stale()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mask = os.umask(_UMASK)
            try:
                listener.bind(self.path)
            finally:
                os.umask(mask)
            listener.listen(backlog)
            self._inode = os.stat(self.path).st_ino
        except OSError as error:
            raise Refused(f"{self._name} cannot be made: {error.strerror or error}") from None
        return listener

    def remove_stale(self) -> None:
        """Remove a socket that nobody serves.

        Raises Refused for a live one and for a file that is not a socket; OSError. Switches
        greenlets.
        """
        try:
            found = os.lstat(self.path)
        except OSError:  # there is none, or bind() names what is wrong with its directory
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise Refused(f"{self._name} cannot be made: {self.path} is not a socket; remove it")
        error = _why_not_served(self.path)
        if error is None:
            raise Refused(f"{self._name} is served by another process; stop it first")
        if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
            raise Refused(f"{self._name} is in use: {error.strerror or error}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def remove(self) -> None:
        """Remove the socket, unless the file is somebody else's by now; none is success."""
        with contextlib.suppress(FileNotFoundError):
            if self._inode is not None and os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
