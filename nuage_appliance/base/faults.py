"""The five faults. Each says who must act next; anything else that is raised is a bug of ours.

A fault is chosen from status codes and protocol fields, never from a text. Its message is one sentence that a network
administrator understands: it reaches the `docker` command line unchanged.
"""

from __future__ import annotations


class Fault(Exception):
    """A failure that has a name; `code` is the peer's own number for it, when it has one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Refused(Fault):
    """The caller asked for something that cannot be; asking again unchanged cannot help."""


class NotFound(Fault):
    """The peer says that the object is not there."""


class Conflict(Fault):
    """The peer says that it is taken, in use, or changed meanwhile."""


class Unavailable(Fault):
    """The peer is gone, slow or failing; the same call may succeed later.

    `sent` tells whether the request may have reached the peer (and so may have been carried out).
    """

    def __init__(self, message: str, code: int | None = None, sent: bool = False) -> None:
        super().__init__(message, code)
        self.sent = sent


class Denied(Fault):
    """The peer refuses our credentials or its identity cannot be trusted; an operator must act."""
