"""Owns the page's view of other clients' requests: a long poll over the log, for csproot only.

Never records a request; its own requests are in no log. Served below /lab, because it is not part
of the VSD's interface.
"""

import time

import bottle
import gevent

from .errors import ApiError, Unauthorized, malformed
from .rest import json_reply, unauthorized

# Also the least time between two answers, so that readers cannot overload a busy simulator.
_LOOK_S = 0.25
_AT_MOST = 200


class RequestFeed:
    """Answers GET /lab/requests and /lab/counters. `requests` switches greenlets while it waits."""

    def __init__(self, simulator, log):
        self._simulator = simulator
        self._log = log

    def requests(self):
        """Return the requests after the number `after`; waits for one as /events does.

        Without `after` it answers at once. `seq` is the number to resume after, `skipped` the count
        of requests that were too many for one answer or are forgotten.
        """
        return self._guarded(self._requests)

    def counters(self):
        """Return how often each kind of request was served."""
        return self._guarded(
            lambda: json_reply(200, {"seq": self._log.seq, "counters": self._log.counters()})
        )

    def _requests(self):
        text = bottle.request.query.get("after", "")
        if text and not (text.isascii() and text.isdigit()):
            raise malformed(f"after must be a number, not {text!r}.", "after")
        after = int(text) if text else 0
        if after > self._log.seq:  # the number comes from before a restart of the simulator
            after, text = 0, ""
        if text:
            self._wait(after)
        seq = self._log.seq
        shown = self._log.since(after)[-_AT_MOST:]
        return json_reply(200, {"seq": seq, "requests": shown, "skipped": seq - after - len(shown)})

    def _wait(self, after):
        deadline = time.monotonic() + self._simulator.settings.event_timeout_s
        gevent.sleep(_LOOK_S)
        while self._log.seq == after and time.monotonic() < deadline:
            gevent.sleep(_LOOK_S)

    def _guarded(self, answer):
        header = bottle.request.headers.get
        try:
            caller = self._simulator.authority.authenticate(
                header("Authorization"), header("X-Nuage-Organization")
            )
            if "CSPROOT" not in caller.roles:
                raise ApiError(
                    403, "Permission denied", "The requests of all clients are for csproot only."
                )
            reply = answer()
        except Unauthorized:
            reply = unauthorized()
        except ApiError as fault:
            reply = json_reply(fault.status, fault.body())
        return bottle.HTTPResponse(reply.body, reply.status, reply.headers)
