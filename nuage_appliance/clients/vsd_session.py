"""One session with the VSD: the log-in, the renewal of the API key, and the repetition of calls.

Owns the API key. Must never log a credential or repeat a POST whose fate is unknown. Everything may
switch greenlets; nothing waits longer than its deadline.

The VSD has no sessions of its own. GET /me with the password answers an API key with an expiry;
every other call sends the key. When the key is over, the VSD answers 401 (or 419). Two things make
this harder than it looks:

- *Who logs in.* Every greenlet meets the 401 at about the same moment: a thousand of them would log
  in a thousand times, and with a wrong password would lock the account. So one greenlet logs in and
  the others wait for it (`_login_lock`), each within its own deadline. Each log-in gets a new
  `_generation`; a greenlet gives the generation that its call was made with, and when that is not
  the current one any more, somebody else has logged in since, and the greenlet just goes on. A
  refused log-in is remembered (`_denied`) for some seconds: whoever comes meanwhile gets the same
  fault without a call.
- *When to renew.* Before the key ends, in the greenlet serve(): see clients/vsd_key.
"""

from __future__ import annotations

import base64
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import gevent.lock

from nuage_appliance.base import log
from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Denied, Fault, Unavailable
from nuage_appliance.clients.vsd_http import Answer, VsdHttp
from nuage_appliance.clients.vsd_key import seconds_to_renewal
from nuage_appliance.clients.vsd_lists import read_list
from nuage_appliance.config import Config

_log = logging.getLogger(__name__)

_LOG_IN_S = 8.0
_SERVE_S = 10.0
_DENIED_FIRST_S, _DENIED_CAP_S = 2.0, 60.0
_RETRY_FACTOR = 2.718281828
_RETRY_CAP_S = 10.0
_KEY_IS_OVER = (401, 419)
_ASKS_FOR_CONFIRMATION = 300
CONFIRMED = "?responseChoice=1"  # the answer to "are you sure?", given in advance
_NOT_REACHED = "the VSD was not reached yet"


def _basic(username: str, secret: str) -> str:
    """What the Authorization header shows of a user and a password or key."""
    return base64.b64encode(f"{username}:{secret}".encode()).decode()


class VsdSession:
    """The session of one configuration at a time. Shared by all greenlets."""

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Raises Refused when the configuration's CA file cannot be used; sends the VSD nothing."""
        self._clock = clock
        self._rng = rng or random.Random()
        self._login_lock = gevent.lock.BoundedSemaphore()
        self._key: str | None = None
        self._generation = 0
        self._renew_at: float | None = None  # None: the key has no known end
        self._denied: Denied | None = None
        self._denied_until = 0.0
        self._denied_backoff = Backoff(_DENIED_FIRST_S, 2.0, _DENIED_CAP_S)
        self._wake = gevent.event.Event()
        self.on_up: Callable[[], None] = lambda: None
        self._is_up = False
        self._down_reason = _NOT_REACHED
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take over credentials, address, trust and retries; the next call logs in again.

        Raises Refused when the CA file cannot be used; then nothing has changed.
        """
        http = VsdHttp(config, self._distrust)
        log.keep_secret(
            config.password,
            base64.b64encode(config.password.encode()).decode(),
            _basic(config.username, config.password),
        )
        self._config = config
        self._http = http
        self._key = None
        self._renew_at = None
        self._generation += 1
        self._denied = None
        self._wake.set()

    # -- state ------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._http.name

    @property
    def problem(self) -> str:
        """Why the VSD cannot be used now, or an empty text."""
        return "" if self._is_up else self._down_reason

    @property
    def trusted_by(self) -> str:
        """How the VSD's certificate is checked."""
        return self._http.trusted_by

    @property
    def is_up(self) -> bool:
        """True when the VSD answered the last call."""
        return self._is_up

    def _mark_up(self) -> None:
        if not self._is_up:
            self._is_up = True
            _log.info("%s answers (certificate %s)", self.name, self.trusted_by)
            self.on_up()

    def _mark_down(self, fault: Fault) -> None:
        """Note why the VSD cannot be used; log it only when it was usable, or at the first try."""
        if not self._is_up and fault.message == self._down_reason:
            return
        if self._is_up or self._down_reason == _NOT_REACHED:
            _log.warning("%s", fault.message)
        self._is_up = False
        self._down_reason = fault.message
        self._wake.set()

    def _distrust(self, fault: Fault) -> None:
        """After a failed handshake: log in again, which looks at the certificate again.

        Other calls raise Denied for their own caller alone; this Denied concerns everybody.
        """
        self._key = None
        self._generation += 1
        self._mark_down(fault)

    # -- the greenlet -----------------------------------------------------------------------------

    def serve(self) -> None:
        """The greenlet that logs in, renews the key, and notices when the VSD is back. For ever."""
        backoff = Backoff(0.5, 2.0, 10.0)
        while True:
            self._wake.clear()
            wait_s: float | None = None
            deadline = Deadline(_SERVE_S, self._clock)
            try:
                if self._key is None:
                    self._renew(self._generation, deadline)
                elif not self._is_up:
                    self.request("GET", "/me", deadline, attempts=1)
                elif self._renew_at is not None and self._clock() >= self._renew_at:
                    self._renew(self._generation, deadline)
                backoff.reset()
                if self._renew_at is not None:
                    wait_s = max(0.05, self._renew_at - self._clock())
            except Denied:
                wait_s = max(0.1, self._denied_until - self._clock())
            except Fault as fault:
                _log.debug("%s", fault.message)
                gevent.sleep(backoff.next_s())
                continue
            self._wake.wait(timeout=wait_s)

    def _renew(self, generation: int, deadline: Deadline) -> None:
        """Log in again, unless another greenlet did so since `generation`."""
        if not self._login_lock.acquire(timeout=deadline.remaining_s()):
            raise Unavailable(f"the log-in at {self.name} did not end in time")
        try:
            if generation != self._generation:
                return
            if self._denied is not None and self._clock() < self._denied_until:
                raise self._denied
            self._log_in(deadline)
        finally:
            self._login_lock.release()

    def _renew_for_call(self, generation: int, deadline: Deadline) -> None:
        """Log in again before a call.

        When that fails, the call itself was not sent, and may be repeated even if it is a POST: so
        the fault must not say `sent`, which it may do of the log-in.
        """
        try:
            self._renew(generation, deadline)
        except Unavailable as fault:
            raise Unavailable(fault.message, fault.code) from None

    def _log_in(self, deadline: Deadline) -> None:
        config = self._config
        # The log-in serves everybody who waits for it, so it may not take all of one call's time.
        deadline = deadline.at_most(_LOG_IN_S)
        try:
            self._http.establish_trust(deadline)
            response = self._http.send("GET", "/me", config.password, None, {}, deadline)
            if response.status in _KEY_IS_OVER:
                raise Denied(
                    f"{self.name} refuses user {config.username!r} of organization "
                    f"{config.organization!r}; "
                    "check username, password and organization in the configuration"
                )
            answer = self._http.decode(response)
        except Denied as fault:
            self._denied = fault
            self._denied_until = self._clock() + self._denied_backoff.next_s()
            self._key = None
            self._mark_down(fault)
            raise
        except Fault as fault:
            self._mark_down(fault)
            raise
        me = (answer.objects() or [{}])[0]
        key = me.get("APIKey")
        if not isinstance(key, str) or not key:
            raise Unavailable(f"{self.name} answered the log-in without an API key")
        self._denied = None
        self._denied_backoff.reset()
        is_new = key != self._key
        if is_new:
            log.keep_secret(key, _basic(config.username, key))
            if self._key is not None:
                log.forget_secret(_basic(config.username, self._key))
        self._key = key
        self._generation += 1
        date = str(answer.headers.get("Date", ""))
        left_s = seconds_to_renewal(me.get("APIKeyExpiry"), date, is_new, time.time(), self._rng)
        self._renew_at = None if left_s is None else self._clock() + left_s
        self._mark_up()

    # -- requests ---------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        body: Any = None,
        headers: dict[str, str] | None = None,
        attempts: int | None = None,
    ) -> Answer:
        """Send one call and return its answer.

        A call that the VSD cannot have carried out is repeated with growing pauses, `numofretries`
        times at most and never beyond the deadline; GET, PUT and DELETE also when the VSD may have
        carried it out, for twice does what once does. Raises each of the five faults.

        Not counted as attempts: the one repetition with a new key after a 401, and the repetition
        that confirms a change when the VSD asks (status 300).
        """
        attempts = attempts or self._config.numofretries
        backoff = self._backoff()
        renewed = False
        cause: Unavailable | None = None
        config = self._config
        while True:
            attempts -= 1
            try:
                if self._key is None:
                    self._renew_for_call(self._generation, deadline)
                generation = self._generation
                response = self._http.send(method, path, self._key, body, headers or {}, deadline)
                if response.status in _KEY_IS_OVER:
                    if renewed:
                        raise Denied(
                            f"{self.name} refuses {method} {path.split('?')[0]} to user "
                            f"{config.username!r} also after a new log-in; "
                            "the user may lack the CMS role, or the VSD's licence has expired"
                        )
                    self._renew_for_call(generation, deadline)
                    renewed = True
                    attempts += 1
                    continue
                if response.status == _ASKS_FOR_CONFIRMATION and "responseChoice=" not in path:
                    path += ("&" if "?" in path else "?") + "responseChoice=1"
                    attempts += 1
                    continue
                answer = self._http.decode(response)
                self._mark_up()
                return answer
            except Unavailable as fault:
                if cause is not None and deadline.is_over:
                    # The deadline cut the last attempt short: the one before met the real reason.
                    fault = Unavailable(cause.message, cause.code, fault.sent)
                cause = fault
                self._mark_down(fault)
                if attempts <= 0 or deadline.is_over or (method == "POST" and fault.sent):
                    raise fault
                pause_s = backoff.next_s()
                if pause_s >= deadline.remaining_s():
                    raise
                gevent.sleep(pause_s)
            except Fault as fault:
                if not isinstance(fault, Denied):
                    self._mark_up()  # it answered; what it answered concerns the caller alone
                raise

    def _backoff(self) -> Backoff:
        first_s = self._config.timeinterval / 1000
        return Backoff(first_s, _RETRY_FACTOR, _RETRY_CAP_S, rng=self._rng)

    def attempts(self) -> Iterator[Backoff]:
        """As many attempts as the configuration allows, for who must look before repeating.

        Yields the pauses between them, each time the same object.
        """
        backoff = self._backoff()
        for _ in range(self._config.numofretries):
            yield backoff

    def list(
        self, path: str, deadline: Deadline, filter_: str | None = None
    ) -> list[dict[str, Any]]:
        """Every object of the collection at `path`; complete or raises Unavailable (vsd_lists)."""

        def get(path: str, deadline: Deadline, headers: dict[str, str]) -> Answer:
            return self.request("GET", path, deadline, headers=headers)

        return read_list(get, self.name, path, filter_, deadline)
