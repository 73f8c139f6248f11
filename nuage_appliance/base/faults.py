"""The five faults. Each says who must act next; anything else that is raised is a bug of ours.

A fault is chosen from status codes and protocol fields, never from a text. Its message is one
sentence that a network administrator understands: the `docker` command line shows it unchanged.
"""

from __future__ import annotations


class Fault(Exception):
    """A failure that has a name. `code` is the backend's own number for it, if it has one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Refused(Fault):
    """The caller asked for something that cannot be; asking again unchanged cannot help."""


class NotFound(Fault):
    """The backend says that the object is not there."""


class Conflict(Fault):
    """The backend says that the object is taken, in use, or was changed meanwhile."""


class Unavailable(Fault):
    """The backend is gone, slow or failing; the same call may succeed later.

    `sent` is true when the request may have reached the backend, which may have carried it out.
    """

    def __init__(self, message: str, code: int | None = None, sent: bool = False) -> None:
        super().__init__(message, code)
        self.sent = sent


class Denied(Fault):
    """The backend refuses our credentials or cannot be trusted; an operator must act."""
