"""One call to the VSD over HTTPS: connections, trust, time limits, and the faults of answers.

Owns the pool of connections. Must never log a credential, read a 401's HTML as JSON, or take half
an answer for a whole one.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import urllib.parse
import warnings
from collections.abc import Callable
from typing import Any

import gevent
import gevent.lock
import requests
import requests.adapters
import urllib3.exceptions

from nuage_appliance.base.deadline import Deadline
from nuage_appliance.base.faults import Conflict, Denied, Fault, NotFound, Refused, Unavailable
from nuage_appliance.clients.vsd_trust import Trust
from nuage_appliance.config import Config

_IN_FLIGHT = 64
_CONNECT_S, _READ_S, _SHORTEST_S, _SHARE = 5.0, 30.0, 2.0, 0.45
_LARGEST_ANSWER_BYTES = 64 << 20
_GUARD_S = 0.2
_NO_CHANGE = 2039  # a PUT that changes nothing: status 409, and all is well
_UNAVAILABLE_STATUSES = (429, 500, 502, 503, 504)


class _Adapter(requests.adapters.HTTPAdapter):
    """Hands our TLS context and pin to urllib3; what requests would choose itself is left out."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        super().__init__(
            pool_connections=2, pool_maxsize=_IN_FLIGHT, max_retries=0, pool_block=False
        )

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pool with our context and pin."""
        options.update(ssl_context=self._trust.context, assert_fingerprint=self._trust.fingerprint)
        super().init_poolmanager(*arguments, **options)

    def build_connection_pool_key_attributes(  # type: ignore[override]  # private types of a stub
        self, request: requests.PreparedRequest, verify: object, cert: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """One pool an address: what the TLS options are, the context says."""
        parts = urllib.parse.urlsplit(request.url or "")
        return {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}, {}

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Do nothing: the context decides."""


class Response:
    """What came back: the status, the headers and the undecoded body."""

    def __init__(self, status: int, headers: Any, text: bytes) -> None:
        self.status, self.headers, self.text = status, headers, text


class Answer:
    """A successful answer: its status, headers and decoded JSON (None for an empty body)."""

    def __init__(self, status: int, headers: Any, data: Any) -> None:
        self.status, self.headers, self.data = status, headers, data

    def objects(self) -> list[dict[str, Any]]:
        """The objects of a list answer; an empty body, null and [] are all the empty list."""
        if self.data is None:
            return []
        if not isinstance(self.data, list) or not all(isinstance(item, dict) for item in self.data):
            raise Unavailable(
                "the VSD answered with something that is not a list of objects", sent=True
            )
        return self.data


class VsdHttp:
    """The connections to the VSD of one configuration. Shared by all greenlets."""

    def __init__(self, config: Config, on_tls_fault: Callable[[Fault], None]) -> None:
        """`on_tls_fault` is called with the fault of every handshake that fails.

        Raises Refused when the CA file cannot be used.
        """
        parts = urllib.parse.urlsplit(config.vsd_api)
        self._trust = Trust(config, parts.hostname or "", parts.port or 443)
        self._config = config
        self._on_tls_fault = on_tls_fault
        self.name = f"the VSD at {config.vsd_root}"
        self._is_trusted = False
        self._slots = gevent.lock.BoundedSemaphore(_IN_FLIGHT)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.max_redirects = 0
        self._session.mount("https://", _Adapter(self._trust))
        if not config.tlsverify:
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)

    @property
    def trusted_by(self) -> str:
        """How the VSD's certificate is checked."""
        return self._trust.by

    def establish_trust(self, deadline: Deadline) -> None:
        """Decide how the certificate is checked, unless that is decided.

        Raises Unavailable, Denied. Switches greenlets.
        """
        if not self._is_trusted:
            self._trust.establish(deadline)
            self._session.mount("https://", _Adapter(self._trust))
            self._is_trusted = True

    def send(
        self,
        method: str,
        path: str,
        secret: str | None,
        body: Any,
        headers: dict[str, str],
        deadline: Deadline,
    ) -> Response:
        """Send one call once and return what came back, whatever its status.

        Raises Unavailable, Denied. Switches greenlets. `secret` is the password at the log-in, the
        API key else. An Unavailable says whether the VSD may have got the call.
        """
        # The deadline. A socket's timeout bounds each wait for the next bytes, not the whole call:
        # a look-up in DNS has no timeout at all, a TLS handshake takes several waits, and a server
        # that drips one byte a second never exceeds any of them. So the call runs under two clocks:
        # the socket's (connect and read), which tells apart what failed, and a gevent.Timeout
        # around everything, which wakes this greenlet wherever it waits. It comes 0.2 s later, so
        # that the better message of the socket wins. It works because all of these wait
        # cooperatively: gevent resolves names in a native thread, and only the greenlet that asked
        # waits for that thread.
        #
        # One attempt gets less than half of what is left (_SHARE), so that a connection that died
        # silently in the pool leaves time for another attempt; at least 2 s, since a shorter
        # attempt would mostly fail on a slow VSD; at most 30 s, and never more than the deadline
        # has.
        #
        # `sent`: what fails before a connection exists cannot have reached the VSD; all else may.
        config, where = self._config, self.name
        token = base64.b64encode(f"{config.username}:{secret or ''}".encode()).decode()
        # Encoded here: requests would send a text as Latin-1, and an organization may have any
        # name.
        all_headers: dict[str, str | bytes] = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Authorization": f"XREST {token}",
            "X-Nuage-Organization": config.organization.encode(),
            **headers,
        }
        payload = None if body is None else json.dumps(body).encode()
        if not self._slots.acquire(timeout=deadline.remaining_s()):
            raise Unavailable(f"{where} is too slow: {_IN_FLIGHT} calls are waiting for it")
        limit_s = deadline.bound(max(_SHORTEST_S, min(_READ_S, _SHARE * deadline.remaining_s())))
        guard = gevent.Timeout(limit_s + _GUARD_S)
        guard.start()
        try:
            response = self._session.request(
                method,
                config.vsd_api + path,
                data=payload,
                headers=all_headers,
                stream=True,
                allow_redirects=False,
                timeout=(max(0.01, min(_CONNECT_S, limit_s)), max(0.01, limit_s)),
            )
            try:
                text = response.raw.read(_LARGEST_ANSWER_BYTES + 1, decode_content=True)
            except BaseException:
                response.close()  # half an answer is still in this connection
                raise
            if len(text) > _LARGEST_ANSWER_BYTES:
                response.close()
                raise Unavailable(
                    f"{where} answers with more than {_LARGEST_ANSWER_BYTES >> 20} MiB", sent=True
                )
            return Response(response.status_code, response.headers, text)
        except gevent.Timeout as timeout:
            if timeout is not guard:
                raise
            raise Unavailable(f"{where} did not answer within {limit_s:.0f} s", sent=True) from None
        except requests.exceptions.SSLError as error:
            fault = self._tls_fault(error)
            self._on_tls_fault(fault)
            raise fault from None
        except requests.exceptions.ConnectTimeout:
            raise Unavailable(
                f"{where} cannot be reached: no answer within {min(_CONNECT_S, limit_s):.0f} s"
            ) from None
        except requests.exceptions.Timeout:
            raise Unavailable(f"{where} did not answer within {limit_s:.0f} s", sent=True) from None
        except requests.exceptions.ConnectionError as error:
            cause = error.args[0] if error.args else error
            reason = getattr(cause, "reason", cause)
            if isinstance(reason, urllib3.exceptions.NewConnectionError):
                words = re.sub(r"\[Errno -?\d+\] ", "", str(reason).rsplit(": ", 1)[-1])
                raise Unavailable(f"{where} cannot be reached: {words}") from None
            raise Unavailable(
                f"{where} closed the connection before it answered", sent=True
            ) from None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(
                f"{where} gave no usable answer: {type(error).__name__}", sent=True
            ) from None
        except (OSError, UnicodeError) as error:
            raise Unavailable(
                f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}", sent=True
            ) from None
        finally:
            guard.close()
            self._slots.release()

    def _tls_fault(self, error: requests.exceptions.SSLError) -> Fault:
        """What to raise for a failed handshake.

        In first-use mode the next log-in looks at the certificate again.
        """
        cause: Any = error.args[0] if error.args else error
        cause = getattr(cause, "reason", cause)
        detail = str(cause)
        self._is_trusted = False
        if isinstance(cause, urllib3.exceptions.SSLError) and "ingerprint" in detail:
            if self._trust.is_first_use:
                # The log-in that follows looks again, and names both fingerprints.
                return Unavailable(f"{self.name} shows another certificate than before")
            return Denied(
                f"{self.name} shows another certificate than the pinned one; "
                "correct tlsfingerprint or find out why"
            )
        inner = cause.args[0] if getattr(cause, "args", None) else cause
        if isinstance(inner, ssl.SSLCertVerificationError):
            return Denied(
                f"the certificate of {self.name} is not trusted ({inner.verify_message}); "
                "set cafile to its CA, or tlsfingerprint"
            )
        reason = getattr(inner, "reason", None) or type(cause).__name__
        return Unavailable(f"the TLS connection to {self.name} failed: {reason}")

    def decode(self, response: Response) -> Answer:
        """The answer in a successful response.

        Raises for any other the fault that its status and the VSD's internal code stand for.
        """
        status, text = response.status, response.text
        data: Any = None
        parsed = True
        if text.strip():
            try:
                data = json.loads(text)
            except (ValueError, RecursionError):
                parsed = False
        if 200 <= status < 300:
            if not parsed:
                raise Unavailable(
                    f"{self.name} answered with something that is not JSON", sent=True
                )
            return Answer(status, response.headers, data)
        code = data.get("internalErrorCode") if isinstance(data, dict) else None
        code = code if isinstance(code, int) and not isinstance(code, bool) else None
        reason = _reason(data) if parsed else ""
        if status == 409 and code == _NO_CHANGE:
            return Answer(status, response.headers, None)
        detail = f": {reason}" if reason else ""
        if status == 404:
            raise NotFound(f"the VSD does not know it{detail}", code)
        if status in (409, 412):
            raise Conflict(reason or f"{self.name} refused the change (status {status})", code)
        if status == 403:
            raise Denied(
                f"{self.name} forbids this to user {self._config.username!r}{detail}", code
            )
        if status in _UNAVAILABLE_STATUSES or status < 400:
            raise Unavailable(f"{self.name} answered with status {status}{detail}", code, sent=True)
        raise Refused(f"{self.name} refused the request with status {status}{detail}", code)


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
