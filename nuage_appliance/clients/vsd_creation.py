"""Creates an object on the VSD at most once, although a reply may be lost.

Owns nothing. Everything may switch greenlets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Fault, Unavailable
from nuage_appliance.clients.vsd_session import VsdSession

_Made = TypeVar("_Made")


def create_once(
    session: VsdSession,
    path: str,
    body: dict[str, Any],
    *,
    read: Callable[[dict[str, Any]], _Made | None],
    look: Callable[[], _Made | None],
    deadline: Deadline,
) -> _Made:
    """POST `body` to `path` and return what `read` makes of the object that the VSD answers.

    `look` finds the object on the VSD if an earlier POST made it, and answers None if not. Raises
    each fault of the session. An Unavailable that was `sent` means: it may be made yet.

    A POST is not repeated blindly. The VSD may have carried it out although its answer was lost,
    came too late, or says nothing; a second container would take a second address. So:

    1. The request never left: raise. The session has repeated it already as often as allowed.
    2. The request may have arrived: `look` for the object. The body has a name of this request's
       own in it (a UUID, an external id), so what is found is ours.
    3. Not found: it was not carried out; pause and POST again, within the deadline.
    4. `look` itself fails, or the time is over: nobody knows. Raise the fault of the POST, not that
       of the look, so that the caller learns that the object may exist, and cleans up later.
    """
    last = Unavailable(f"{session.name} was not asked")
    cause: Unavailable | None = None
    for backoff in session.attempts():
        try:
            objects = session.request("POST", path, deadline, body).objects()
            made = read(objects[0]) if objects else None
            if made is not None:
                return made
            last = Unavailable(
                f"{session.name} answered the creation of an object of {path} with nothing",
                sent=True,
            )
        except Unavailable as fault:
            if not fault.sent:
                raise
            last = fault
            if cause is not None and deadline.is_over:
                # The deadline cut this attempt short: the one before met the real reason.
                last = Unavailable(cause.message, cause.code, sent=True)
        cause = last
        made = look_after(last, look, deadline)
        if made is not None:
            return made
        time.sleep(deadline.bound(backoff.next_s()))
    raise last


def look_after(fault: Fault, look: Callable[[], _Made | None], deadline: Deadline) -> _Made | None:
    """What `look` finds after a POST failed with `fault`; raises `fault` when nobody can know."""
    try:
        found = look()
    except Unavailable:
        raise fault from None
    if found is None and deadline.is_over:
        raise fault
    return found
