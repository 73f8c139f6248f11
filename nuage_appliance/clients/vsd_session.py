"""One session with the VSD: log-in, the API key's renewal, retries and paging.

Owns the API key. Must never log a credential or repeat a POST whose fate is unknown. Everything may switch greenlets;
nothing waits longer than its deadline.
"""

from __future__ import annotations

import base64
import email.utils
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
from nuage_appliance.config import Config

_log = logging.getLogger(__name__)

_PAGE_SIZE = 500
_MOST_PAGES = 10_000
_READINGS = 3
_RENEW_LEAD_S = 50.0
_LOG_IN_S = 8.0
_DENIED_FIRST_S, _DENIED_CAP_S = 2.0, 60.0


class VsdSession:
    """The session. Shared by all greenlets."""

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Raises Refused when the configuration's CA file cannot be used. Does no I/O to the VSD."""
        self._clock, self._rng = clock, rng or random.Random()
        self._login_lock = gevent.lock.BoundedSemaphore()
        self._key: str | None = None
        self._generation = 0
        self._key_dies_at: float | None = None
        self._denied: Denied | None = None
        self._denied_until = 0.0
        self._denied_backoff = Backoff(_DENIED_FIRST_S, 2.0, _DENIED_CAP_S)
        self._wake = gevent.event.Event()
        self.on_up: Callable[[], None] = lambda: None
        self._is_up = False
        self._down_reason = "the VSD was not reached yet"
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take over credentials, address, trust and retries; the next call logs in again. Raises Refused."""
        http = VsdHttp(config, self._distrust)
        basic = base64.b64encode(f"{config.username}:{config.password}".encode()).decode()
        log.keep_secret(config.password, base64.b64encode(config.password.encode()).decode(), basic)
        self._config, self._http = config, http
        self._key, self._key_dies_at = None, None
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

    def _mark(self, fault: Fault | None) -> None:
        if fault is None:
            if not self._is_up:
                self._is_up = True
                _log.info("%s answers (certificate %s)", self.name, self.trusted_by)
                self.on_up()
        elif self._is_up or fault.message != self._down_reason:
            if self._is_up or self._down_reason == "the VSD was not reached yet":
                _log.warning("%s", fault.message)
            self._is_up, self._down_reason = False, fault.message
            self._wake.set()

    def _distrust(self, fault: Fault) -> None:
        """After a failed handshake, log in again; unlike other faults, a denial here does not concern the caller alone."""
        self._key = None
        self._generation += 1
        self._mark(fault)

    # -- the greenlet -----------------------------------------------------------------------------

    def serve(self) -> None:
        """The greenlet that logs in, renews the key before it dies, and notices when the VSD is back. Never returns."""
        backoff = Backoff(0.5, 2.0, 10.0)
        while True:
            self._wake.clear()
            wait_s: float | None
            try:
                if self._key is None:
                    self._renew(self._generation, Deadline(10.0, self._clock))
                elif not self._is_up:
                    self.request("GET", "/me", Deadline(10.0, self._clock), attempts=1)
                elif self._key_dies_at is not None and self._clock() >= self._renew_at:
                    self._renew(self._generation, Deadline(10.0, self._clock))
                backoff.reset()
                wait_s = (
                    None if self._key_dies_at is None else max(0.05, self._renew_at - self._clock())
                )
            except Denied:
                wait_s = max(0.1, self._denied_until - self._clock())
            except Fault as fault:
                _log.debug("%s", fault.message)
                wait_s = backoff.next_s()
                gevent.sleep(wait_s)
                continue
            self._wake.wait(timeout=wait_s)

    def _renew(self, generation: int, deadline: Deadline) -> None:
        """Log in again unless somebody did so since `generation`; one greenlet does it, the others wait for it."""
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
        """Log in again before a call, which was not carried out when that fails: it may be repeated, whatever it is."""
        try:
            self._renew(generation, deadline)
        except Unavailable as fault:
            raise Unavailable(fault.message, fault.code) from None

    def _log_in(self, deadline: Deadline) -> None:
        config = self._config
        deadline = Deadline(
            deadline.bound(_LOG_IN_S), self._clock
        )  # whoever waits for it has a deadline of its own
        try:
            self._http.establish_trust(deadline)
            response = self._http.send("GET", "/me", config.password, None, {}, deadline)
            if response.status in (401, 419):
                raise Denied(
                    f"{self.name} refuses user {config.username!r} of organization {config.organization!r}; "
                    "check username, password and organization in the configuration"
                )
            answer = self._http.decode(response)
        except Denied as fault:
            self._denied, self._denied_until = fault, self._clock() + self._denied_backoff.next_s()
            self._key = None
            self._mark(fault)
            raise
        except Fault as fault:
            self._mark(fault)
            raise
        me = (answer.objects() or [{}])[0]
        key = me.get("APIKey")
        if not isinstance(key, str) or not key:
            raise Unavailable(f"{self.name} answered the log-in without an API key")
        self._denied = None
        self._denied_backoff.reset()
        is_new = key != self._key
        if is_new:
            log.keep_secret(key, base64.b64encode(f"{config.username}:{key}".encode()).decode())
            if self._key is not None:
                old = self._key
                log.forget_secret(base64.b64encode(f"{config.username}:{old}".encode()).decode())
        self._key = key
        self._generation += 1
        self._plan_renewal(me.get("APIKeyExpiry"), answer.headers, is_new)
        self._mark(None)

    def _plan_renewal(self, expiry: Any, headers: Any, is_new: bool) -> None:
        """Renew in the last 50 s of the key's life, or just after its end when the VSD gave the old key again."""
        self._key_dies_at = None
        if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or expiry <= 0:
            return
        expiry_s = expiry if expiry < 1e11 else expiry / 1000
        try:
            now_s = email.utils.parsedate_to_datetime(headers.get("Date", "")).timestamp()
        except (TypeError, ValueError, IndexError):
            now_s = time.time()
        left_s = expiry_s - now_s
        self._key_dies_at = self._clock() + left_s
        # The Date header has whole seconds, so the key may die a second earlier than it seems.
        lead_s = 1.0 + self._rng.uniform(0.0, min(_RENEW_LEAD_S - 1.0, 0.1 * max(0.0, left_s)))
        if not is_new and left_s <= _RENEW_LEAD_S:
            lead_s = -1.0
        self._renew_at = self._key_dies_at - lead_s

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

        A call that the VSD cannot have carried out is repeated with growing pauses, `numofretries` times at most and
        never beyond the deadline; GET, PUT and DELETE also when it may have. Raises each of the five faults.
        """
        config = self._config
        attempts = attempts or config.numofretries
        backoff = Backoff(config.timeinterval / 1000, 2.718281828, 10.0, rng=self._rng)
        renewed = False
        cause: Unavailable | None = None
        while True:
            attempts -= 1
            try:
                if self._key is None:
                    self._renew_for_call(self._generation, deadline)
                generation = self._generation
                response = self._http.send(method, path, self._key, body, headers or {}, deadline)
                if response.status in (401, 419):
                    if renewed:
                        raise Denied(
                            f"{self.name} refuses {method} {self._resource(path)} to user {config.username!r} also after a new "
                            "log-in; the user may lack the CMS role, or the VSD's licence has expired"
                        )
                    self._renew_for_call(generation, deadline)
                    renewed = True
                    attempts += 1
                    continue
                if response.status == 300 and "responseChoice=" not in path:
                    path += ("&" if "?" in path else "?") + "responseChoice=1"
                    attempts += 1
                    continue
                answer = self._http.decode(response)
                self._mark(None)
                return answer
            except Unavailable as fault:
                if (
                    cause is not None and deadline.is_over
                ):  # the last attempt was cut short: what the one before it met is the reason
                    fault = Unavailable(cause.message, cause.code, fault.sent)
                cause = fault
                self._mark(fault)
                if attempts <= 0 or deadline.is_over or (method == "POST" and fault.sent):
                    raise fault
                pause_s = backoff.next_s()
                if pause_s >= deadline.remaining_s():
                    raise
                gevent.sleep(pause_s)
            except Fault as fault:
                if not isinstance(fault, Denied):
                    self._mark(None)  # it answered; what it said concerns the caller
                raise

    @property
    def is_up(self) -> bool:
        """True when the last call was answered."""
        return self._is_up

    def attempts(self) -> Iterator[Backoff]:
        """As many attempts as the configuration allows, for callers that must look before they repeat."""
        backoff = Backoff(self._config.timeinterval / 1000, 2.718281828, 10.0, rng=self._rng)
        for _ in range(self._config.numofretries):
            yield backoff

    @staticmethod
    def _resource(path: str) -> str:
        return path.split("?")[0]

    # -- lists ------------------------------------------------------------------------------------

    def list(
        self, path: str, deadline: Deadline, filter_: str | None = None
    ) -> list[dict[str, Any]]:
        """Every object of a collection. Complete, or raises Unavailable: never a part. Reads pages of 500.

        What is deleted or made while it is read may be in it or not.
        """
        seen: dict[str, dict[str, Any]] = {}
        for _ in range(_READINGS):
            objects, expected = self._pages(path, deadline, filter_)
            if len(objects) >= expected:
                return list(objects.values())
            seen.update(objects)
            if len(seen) >= expected:
                return list(seen.values())
        raise Unavailable(
            f"the list {self._resource(path)} of {self.name} is incomplete: {len(seen)} of {expected} objects"
        )

    def _pages(
        self, path: str, deadline: Deadline, filter_: str | None
    ) -> tuple[dict[str, dict[str, Any]], int]:
        """What one reading showed, by id, and the smallest number of objects that the VSD counted meanwhile.

        In the order of their creation, from the last page to the first: what is made meanwhile comes after the end and
        moves nobody, and what is deleted moves the others to pages that are still to be read.
        """
        found: dict[str, dict[str, Any]] = {}
        size, expected = _PAGE_SIZE, 1 << 62

        def read(page: int) -> int:
            nonlocal expected
            headers = {
                "X-Nuage-Page": str(page),
                "X-Nuage-PageSize": str(size),
                "X-Nuage-OrderBy": "creationDate ASC",
            }
            if filter_ is not None:
                headers.update({"X-Nuage-Filter": filter_, "X-Nuage-FilterType": "predicate"})
            answer = self.request("GET", path, deadline, headers=headers)
            objects = answer.objects()
            try:
                count = int(answer.headers.get("X-Nuage-Count", ""))
            except ValueError:  # no VSD answers a list so: also an empty one has its count
                raise Unavailable(
                    f"{self.name} answered the list {self._resource(path)} without a count of its objects",
                    sent=True,
                ) from None
            expected = min(expected, count)
            for item in objects:
                found[str(item.get("ID"))] = item
            return len(objects)

        first = read(0)
        if 0 < first < min(size, expected):
            size = first  # the VSD caps the page size; go on in its own
        if first and expected > size:
            for page in range(min(_MOST_PAGES, -(-expected // size)) - 1, -1, -1):
                read(page)
        return found, expected
