"""One session with the VSD: log-in, the API key's renewal, retries, paging, and faults made from its answers.

Owns the API key and the pool of connections. Must never log a credential, repeat a POST whose fate is unknown, or read a
401's HTML as JSON. Everything may switch greenlets; nothing waits longer than its deadline.
"""

from __future__ import annotations

import base64
import email.utils
import json
import logging
import random
import re
import ssl
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import gevent.lock
import requests
import requests.adapters
import urllib3.exceptions

from nuage_appliance.base import log
from nuage_appliance.base.deadline import Backoff, Deadline
from nuage_appliance.base.faults import Conflict, Denied, Fault, NotFound, Refused, Unavailable
from nuage_appliance.config import Config
from nuage_appliance.peers.vsd_trust import Trust

_log = logging.getLogger(__name__)

_IN_FLIGHT = 64
_CONNECT_S, _READ_S, _SHORTEST_S, _SHARE = 5.0, 30.0, 2.0, 0.45
_LARGEST_ANSWER_BYTES = 64 << 20
_PAGE_SIZE = 500
_MOST_PAGES = 10_000
_READINGS = 3
_NO_CHANGE = 2039
_RENEW_LEAD_S = 50.0
_LOG_IN_S = 8.0
_DENIED_FIRST_S, _DENIED_CAP_S = 2.0, 60.0
_UNAVAILABLE_STATUSES = (429, 500, 502, 503, 504)


class _Adapter(requests.adapters.HTTPAdapter):
    """Hands our TLS context and pin to urllib3; what requests would choose itself is left out."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        super().__init__(pool_connections=2, pool_maxsize=_IN_FLIGHT, max_retries=0, pool_block=False)

    def init_poolmanager(self, *arguments, **options):
        options.update(ssl_context=self._trust.context, assert_fingerprint=self._trust.fingerprint)
        super().init_poolmanager(*arguments, **options)

    def build_connection_pool_key_attributes(self, request, verify, cert=None):
        parts = urllib.parse.urlsplit(request.url)
        return {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}, {}

    def cert_verify(self, conn, url, verify, cert):
        """The context decides."""


class Answer:
    """A successful answer: its status, headers and decoded JSON (None for an empty body)."""

    def __init__(self, status: int, headers: Any, data: Any) -> None:
        self.status, self.headers, self.data = status, headers, data

    def objects(self) -> list[dict[str, Any]]:
        """The objects of a list answer; an empty body, null and [] are all the empty list."""
        if self.data is None:
            return []
        if not isinstance(self.data, list) or not all(isinstance(item, dict) for item in self.data):
            raise Unavailable("the VSD answered with something that is not a list of objects", sent=True)
        return self.data


class VsdSession:
    """The session. Shared by all greenlets."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        """Raises Refused when the configuration's CA file cannot be used. Does no I/O to the VSD."""
        self._clock, self._rng = clock, rng or random.Random()
        self._slots = gevent.lock.BoundedSemaphore(_IN_FLIGHT)
        self._login_lock = gevent.lock.BoundedSemaphore()
        self._key: str | None = None
        self._generation = 0
        self._key_dies_at: float | None = None
        self._denied: Denied | None = None
        self._denied_until = 0.0
        self._denied_backoff = Backoff(_DENIED_FIRST_S, 2.0, _DENIED_CAP_S)
        self._wake = gevent.event.Event()
        self._trusted = False
        self.on_up: Callable[[], None] = lambda: None
        self._is_up = False
        self._down_reason = "the VSD was not reached yet"
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take over credentials, address, trust and retries; the next call logs in again. Raises Refused."""
        parts = urllib.parse.urlsplit(config.vsd_api)
        trust = Trust(config, parts.hostname or "", parts.port or 443)
        session = requests.Session()
        session.trust_env = False
        session.max_redirects = 0
        session.mount("https://", _Adapter(trust))
        if not config.tlsverify:
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        basic = base64.b64encode(f"{config.username}:{config.password}".encode()).decode()
        log.keep_secret(config.password, base64.b64encode(config.password.encode()).decode(), basic)
        self._config, self._trust, self._session = config, trust, session
        self._base, self._root_name = config.vsd_api, config.vsd_root
        self._key, self._key_dies_at, self._trusted = None, None, False
        self._generation += 1
        self._denied = None
        self._wake.set()

    # -- state ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the VSD at {self._root_name}"

    @property
    def problem(self) -> str:
        """Why the VSD cannot be used now, or an empty text."""
        return "" if self._is_up else self._down_reason

    @property
    def trusted_by(self) -> str:
        """How the VSD's certificate is checked."""
        return self._trust.by

    def _mark(self, fault: Fault | None) -> None:
        if fault is None:
            if not self._is_up:
                self._is_up = True
                _log.info("the VSD at %s answers (certificate %s)", self._root_name, self._trust.by)
                self.on_up()
        elif self._is_up or fault.message != self._down_reason:
            if self._is_up or self._down_reason == "the VSD was not reached yet":
                _log.warning("%s", fault.message)
            self._is_up, self._down_reason = False, fault.message
            self._wake.set()

    # -- the greenlet -----------------------------------------------------------------------------------------------

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
                wait_s = None if self._key_dies_at is None else max(0.05, self._renew_at - self._clock())
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
            raise Unavailable(f"the log-in at the VSD at {self._root_name} did not end in time")
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
        deadline = Deadline(deadline.bound(_LOG_IN_S), self._clock)  # whoever waits for it has a deadline of its own
        try:
            if not self._trusted:
                self._trust.establish(deadline)
                self._session.mount("https://", _Adapter(self._trust))
                self._trusted = True
            response = self._send("GET", "/me", config.password, None, {}, deadline)
            if response.status in (401, 419):
                raise Denied(f"the VSD at {self._root_name} refuses user {config.username!r} of organization {config.organization!r}; "
                             "check username, password and organization in the configuration")
            self._check(response)
        except Denied as fault:
            self._denied, self._denied_until = fault, self._clock() + self._denied_backoff.next_s()
            self._key = None
            self._mark(fault)
            raise
        except Fault as fault:
            self._mark(fault)
            raise
        me = (Answer(response.status, response.headers, response.data).objects() or [{}])[0]
        key = me.get("APIKey")
        if not isinstance(key, str) or not key:
            raise Unavailable(f"the VSD at {self._root_name} answered the log-in without an API key")
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
        self._plan_renewal(me.get("APIKeyExpiry"), response.headers, is_new)
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

    # -- requests ---------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, deadline: Deadline, body: Any = None, headers: dict[str, str] | None = None,
                attempts: int | None = None) -> Answer:
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
                response = self._send(method, path, self._key, body, headers or {}, deadline)
                if response.status in (401, 419):
                    if renewed:
                        raise Denied(f"the VSD at {self._root_name} refuses {method} {self._resource(path)} to user {config.username!r} also after a new "
                                     "log-in; the user may lack the CMS role, or the VSD's licence has expired")
                    self._renew_for_call(generation, deadline)
                    renewed = True
                    attempts += 1
                    continue
                if response.status == 300 and "responseChoice=" not in path:
                    path += ("&" if "?" in path else "?") + "responseChoice=1"
                    attempts += 1
                    continue
                self._check(response)
                answer = Answer(response.status, response.headers, response.data)
                self._mark(None)
                return answer
            except Unavailable as fault:
                if cause is not None and deadline.is_over:  # the last attempt was cut short: what the one before it met is the reason
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

    class _Response:
        def __init__(self, status: int, headers: Any, text: bytes) -> None:
            self.status, self.headers, self.text = status, headers, text
            self.data: Any = None

    def _send(self, method: str, path: str, secret: str | None, body: Any, headers: dict[str, str], deadline: Deadline) -> _Response:
        config = self._config
        token = base64.b64encode(f"{config.username}:{secret or ''}".encode()).decode()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Authorization": f"XREST {token}",
                   "X-Nuage-Organization": config.organization.encode(), **headers}
        payload = None if body is None else json.dumps(body).encode()
        where = f"the VSD at {self._root_name}"
        if not self._slots.acquire(timeout=deadline.remaining_s()):
            raise Unavailable(f"{where} is too slow: {_IN_FLIGHT} calls are waiting for it")
        sent = False
        # Less than half of what is left, so that a connection that died silently leaves time for another attempt.
        limit_s = deadline.bound(max(_SHORTEST_S, min(_READ_S, _SHARE * deadline.remaining_s())))
        guard = gevent.Timeout(limit_s + 0.2)  # a server that drips bytes never exceeds a socket's own timeout
        guard.start()
        try:
            sent = True
            response = self._session.request(
                method, self._base + path, data=payload, headers=headers, stream=True, allow_redirects=False,
                timeout=(max(0.01, min(_CONNECT_S, limit_s)), max(0.01, limit_s)))
            try:
                text = response.raw.read(_LARGEST_ANSWER_BYTES + 1, decode_content=True)
            except BaseException:
                response.close()  # half an answer is still in this connection
                raise
            if len(text) > _LARGEST_ANSWER_BYTES:
                response.close()
                raise Unavailable(f"{where} answers with more than {_LARGEST_ANSWER_BYTES >> 20} MiB", sent=True)
            return self._Response(response.status_code, response.headers, text)
        except gevent.Timeout as timeout:
            if timeout is not guard:
                raise
            raise Unavailable(f"{where} did not answer within {limit_s:.0f} s", sent=True) from None
        except requests.exceptions.SSLError as error:
            fault = self._tls_fault(error)
            self._mark(fault)  # unlike other denials, it does not concern the caller alone
            raise fault from None
        except requests.exceptions.ConnectTimeout:
            raise Unavailable(f"{where} cannot be reached: no answer within {min(_CONNECT_S, limit_s):.0f} s") from None
        except requests.exceptions.Timeout:
            raise Unavailable(f"{where} did not answer within {limit_s:.0f} s", sent=sent) from None
        except requests.exceptions.ConnectionError as error:
            cause = error.args[0] if error.args else error
            reason = getattr(cause, "reason", cause)
            new = isinstance(reason, urllib3.exceptions.NewConnectionError)
            if new:
                said = re.sub(r"\[Errno -?\d+\] ", "", str(reason).rsplit(": ", 1)[-1])
                raise Unavailable(f"{where} cannot be reached: {said}") from None
            raise Unavailable(f"{where} closed the connection before it answered", sent=sent) from None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(f"{where} gave no usable answer: {type(error).__name__}", sent=sent) from None
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}", sent=sent) from None
        finally:
            guard.close()
            self._slots.release()

    def _tls_fault(self, error: requests.exceptions.SSLError) -> Fault:
        """What to raise for a failed handshake; in first-use mode the next log-in looks at the certificate again."""
        cause: Any = error.args[0] if error.args else error
        cause = getattr(cause, "reason", cause)
        detail = str(cause)
        self._trusted = False
        self._key = None
        self._generation += 1
        if isinstance(cause, urllib3.exceptions.SSLError) and "ingerprint" in detail:
            if self._trust.is_first_use:  # the log-in that follows looks again, and says both fingerprints
                return Unavailable(f"the VSD at {self._root_name} shows another certificate than before")
            return Denied(f"the VSD at {self._root_name} shows another certificate than the pinned one; correct tlsfingerprint or find out why")
        inner = cause.args[0] if getattr(cause, "args", None) else cause
        if isinstance(inner, ssl.SSLCertVerificationError):
            return Denied(f"the certificate of the VSD at {self._root_name} is not trusted ({inner.verify_message}); set cafile to its CA, or tlsfingerprint")
        return Unavailable(f"the TLS connection to the VSD at {self._root_name} failed: {getattr(inner, 'reason', None) or type(cause).__name__}")

    def _check(self, response: _Response) -> None:
        """Decode the body; raise the fault that the status and the internal code stand for."""
        status, text = response.status, response.text
        data: Any = None
        parsed = True
        if text.strip():
            try:
                data = json.loads(text)
            except (ValueError, RecursionError):
                parsed = False
        response.data = data
        if 200 <= status < 300:
            if not parsed:
                raise Unavailable(f"the VSD at {self._root_name} answered with something that is not JSON", sent=True)
            return
        code = data.get("internalErrorCode") if isinstance(data, dict) else None
        code = code if isinstance(code, int) and not isinstance(code, bool) else None
        reason = _reason(data) if parsed else ""
        if status == 409 and code == _NO_CHANGE:
            response.data = None
            return
        said = f": {reason}" if reason else ""
        if status == 404:
            raise NotFound(f"the VSD does not know it{said}", code)
        if status in (409, 412):
            raise Conflict(reason or f"the VSD at {self._root_name} refused the change (status {status})", code)
        if status == 403:
            raise Denied(f"the VSD at {self._root_name} forbids this to user {self._config.username!r}{said}", code)
        if status in _UNAVAILABLE_STATUSES or status < 400:
            raise Unavailable(f"the VSD at {self._root_name} answered with status {status}{said}", code, sent=True)
        raise Refused(f"the VSD at {self._root_name} refused the request with status {status}{said}", code)

    # -- lists ------------------------------------------------------------------------------------------------------

    def list(self, path: str, deadline: Deadline, filter_: str | None = None) -> list[dict[str, Any]]:
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
        raise Unavailable(f"the list {self._resource(path)} of the VSD at {self._root_name} is incomplete: {len(seen)} of {expected} objects")

    def _pages(self, path: str, deadline: Deadline, filter_: str | None) -> tuple[dict[str, dict[str, Any]], int]:
        """What one reading showed, by id, and the smallest number of objects that the VSD counted meanwhile.

        In the order of their creation, from the last page to the first: what is made meanwhile comes after the end and
        moves nobody, and what is deleted moves the others to pages that are still to be read.
        """
        found: dict[str, dict[str, Any]] = {}
        size, expected = _PAGE_SIZE, 1 << 62

        def read(page: int) -> int:
            nonlocal expected
            headers = {"X-Nuage-Page": str(page), "X-Nuage-PageSize": str(size), "X-Nuage-OrderBy": "creationDate ASC"}
            if filter_ is not None:
                headers.update({"X-Nuage-Filter": filter_, "X-Nuage-FilterType": "predicate"})
            answer = self.request("GET", path, deadline, headers=headers)
            objects = answer.objects()
            try:
                count = int(answer.headers.get("X-Nuage-Count", ""))
            except ValueError:  # no VSD answers a list so: also an empty one has its count
                raise Unavailable(f"the VSD at {self._root_name} answered the list {self._resource(path)} without a count of its objects",
                                  sent=True) from None
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


def _reason(data: Any) -> str:
    """The VSD's own words for a failure, in one line of at most 300 characters."""
    words: list[str] = []
    errors = data.get("errors") if isinstance(data, dict) else None
    if isinstance(errors, str):
        words.append(errors)
    elif isinstance(errors, list):
        for error in errors[:3]:
            if not isinstance(error, dict):
                continue
            descriptions = error.get("descriptions")
            for item in (descriptions if isinstance(descriptions, list) else [])[:2]:
                if isinstance(item, dict):
                    text = item.get("description") or item.get("title")
                    name = error.get("property")
                    if isinstance(text, str):
                        words.append(f"{name}: {text}" if isinstance(name, str) and name else text)
    if not words and isinstance(data, dict) and isinstance(data.get("description"), str):
        words.append(data["description"])
    return " ".join("; ".join(words).split())[:300]
