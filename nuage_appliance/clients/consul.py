"""Consul, through python-consul: keys with compare-and-set, watching, sessions, a service.

Owns the connections. Everything may switch greenlets. No text that this module writes ever holds
the token: python-consul would send it in the URL, which servers log; the HTTP client here sends a
header.

Watching. Consul has no stream of events. A *blocking query* asks for a prefix with the index that
was seen last: Consul answers as soon as the index is another one, or after `wait` seconds with the
same index (plus up to a sixteenth, so that not all clients come back at once). The answer says only
*that* something changed: the watcher then reads the prefix as a whole, so nothing that happened in
between can be missed, and an event that comes twice does no harm. Three things to keep in mind:

- The index can go back, when Consul was restored from a backup: then start again with index 0.
- An index of 0 would make the next query answer at once, and a loop of that would never rest; the
  caller pauses between two queries whatever the answer was.
- A watching call is silent for half a minute by intent, so it has its own connection and its own
  time limit: `_long`, beside `_short` for all the other calls.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import consul.base
import gevent
import requests
import urllib3

from nuage_appliance.base import system_cas
from nuage_appliance.base.faults import Denied, Fault, NotFound, Refused, Unavailable

_CONNECT_S = 3.0
_CALL_S = 5.0
# Decoding more would hold the hub; it is the keys of some 4,000 networks.
_LARGEST_ANSWER_BYTES = 4 << 20
_LONGEST_NOTE = 500
_NEEDED = (
    'it needs key_prefix "nuage-libnetwork/" write, service "nuage-libnetwork" write, '
    "session_prefix write and node_prefix read"
)
_Answer = TypeVar("_Answer")


class _Client(consul.base.HTTPClient):  # type: ignore[misc]  # the library has no annotations
    """What python-consul speaks HTTP with; each call may take `seconds`."""

    def __init__(self, url: str, token: str, cafile: str) -> None:
        self.base_uri = url
        self.seconds = _CALL_S
        self._session = requests.Session()
        self._session.trust_env = False  # neither a proxy nor credentials of the environment
        self._session.verify = cafile or system_cas.bundle() or True
        if token:
            self._session.headers["X-Consul-Token"] = token

    def _call(
        self, verb: str, callback: Callable[[Any], Any], path: str, params: Any, data: Any = None
    ) -> Any:
        connect_s = min(_CONNECT_S, self.seconds)
        # The timeout of requests bounds each wait alone; this one bounds the whole call.
        with gevent.Timeout(self.seconds + connect_s):
            response = self._session.request(
                verb,
                self.uri(path, params),
                data=data,
                timeout=(connect_s, self.seconds),
                stream=True,
                allow_redirects=False,
            )
            with response:
                body = response.raw.read(_LARGEST_ANSWER_BYTES + 1, decode_content=True)
        if len(body) > _LARGEST_ANSWER_BYTES:
            raise ValueError("too large")
        return callback(
            consul.base.Response(response.status_code, response.headers, body.decode("utf-8"))
        )

    def get(self, callback: Callable[[Any], Any], path: str, params: Any = None) -> Any:
        """GET, for the library."""
        return self._call("GET", callback, path, params)

    def put(
        self, callback: Callable[[Any], Any], path: str, params: Any = None, data: Any = ""
    ) -> Any:
        """PUT, for the library."""
        return self._call("PUT", callback, path, params, data)

    def delete(self, callback: Callable[[Any], Any], path: str, params: Any = None) -> Any:
        """DELETE, for the library."""
        return self._call("DELETE", callback, path, params)

    def post(
        self, callback: Callable[[Any], Any], path: str, params: Any = None, data: Any = ""
    ) -> Any:
        """POST, for the library."""
        return self._call("POST", callback, path, params, data)


class _Library:
    """The parts of python-consul that are used here, over our HTTP client.

    The library's own class lets CONSUL_HTTP_* of the environment overrule its arguments, and
    refuses to start when they are malformed. The configuration file alone counts here, so the parts
    get this object in place of that class: all that they read of it is `http`, `token`, `dc` and
    `consistency`.
    """

    def __init__(self, client: _Client) -> None:
        self.http = client
        self.token = None  # _Client sends it
        self.dc = None
        self.consistency = "default"
        self.kv = consul.base.Consul.KV(self)
        self.session = consul.base.Consul.Session(self)
        self.agent = consul.base.Consul.Agent(self)
        self.health = consul.base.Consul.Health(self)
        self.status = consul.base.Consul.Status(self)


def _encode(value: Mapping[str, Any]) -> str:
    """Equal values have equal texts, so that an unchanged key need not be written."""
    return json.dumps(value, sort_keys=True)


def _tls_reason(error: requests.exceptions.SSLError) -> str:
    """Why a handshake failed, from what urllib3 and OpenSSL wrapped into the error."""
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    arguments = getattr(cause, "args", None)
    message = getattr(arguments[0], "verify_message", "") if arguments else ""
    return str(message or "the handshake failed")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A key's value, and the index of its last change, which a compare-and-set needs."""

    value: bytes
    index: int


class Consul:
    """One agent or server. Faults: Denied (token, certificate), Refused, Unavailable.

    `cafile` is empty for the CAs of the system, `token` for none.
    """

    def __init__(self, url: str, token: str, cafile: str) -> None:
        self.url = url
        self._short = _Library(_Client(url, token, cafile))
        self._long = _Library(_Client(url, token, cafile))
        self._problem = f"Consul at {url} was not reached yet"

    @property
    def problem(self) -> str:
        """Why Consul could not be used at the last try, or an empty text."""
        return self._problem

    def _do(self, work: Callable[[], _Answer]) -> _Answer:
        """Do some calls of the library and read their answers; every error becomes a fault."""
        try:
            answer = work()
        except Fault:
            raise
        except consul.ACLPermissionDenied:
            raise self._failed(Denied, f"refuses the token of consultoken; {_NEEDED}") from None
        except consul.ACLDisabled:
            raise self._failed(
                Denied,
                "refuses the token of consultoken, because its ACLs are switched off; "
                "leave consultoken out",
            ) from None
        except consul.NotFound:
            raise self._failed(NotFound, "does not have what was asked for") from None
        except (consul.base.BadRequest, consul.base.ClientError) as error:
            raise self._failed(Refused, f"refuses the request: {str(error)[:200]}") from None
        except consul.ConsulException as error:
            raise self._failed(Unavailable, f"fails: {str(error)[:200]}") from None
        except gevent.Timeout:
            raise self._failed(Unavailable, "did not answer in time") from None
        except requests.exceptions.SSLError as error:
            raise self._failed(
                Denied,
                f"cannot be trusted ({_tls_reason(error)}); "
                "set consulcafile to the CA that signed its certificate",
            ) from None
        except requests.RequestException as error:
            reason = (
                "no answer in time"
                if isinstance(error, requests.Timeout)
                else "the connection failed"
            )
            raise self._failed(Unavailable, f"does not answer: {reason}") from None
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OSError,
            urllib3.exceptions.HTTPError,
        ):
            raise self._failed(
                Unavailable,
                "answered with something that is not Consul's, or with more than 4 MiB",
            ) from None
        self._problem = ""
        return answer

    def _failed(self, kind: type[Fault], what: str) -> Fault:
        self._problem = f"Consul at {self.url} {what}"
        return kind(self._problem)

    def limit(self, seconds: float) -> None:
        """Give each call but the watching one `seconds` from now on."""
        self._short.http.seconds = seconds

    # -- keys -------------------------------------------------------------------------------------

    def read_tree(self, prefix: str) -> dict[str, Entry]:
        """Every key below a prefix; complete or raises."""
        _, items = self._do(lambda: self._short.kv.get(prefix, recurse=True))
        return self._tree(items)

    def wait_for_change(self, prefix: str, index: int, wait_s: float) -> int:
        """Wait until the index of a prefix is not `index`; returns it. With index 0, at once.

        Returns `index` itself when nothing changed for `wait_s` seconds, and 0 when the index went
        back: see the head of this file.
        """
        self._long.http.seconds = wait_s * 17 / 16 + _CALL_S  # Consul adds up to a sixteenth
        found, _ = self._do(
            lambda: self._long.kv.get(
                prefix,
                recurse=True,
                keys=True,
                index=str(index) if index else None,
                wait=f"{wait_s:.0f}s",
            )
        )
        fresh = self._do(lambda: int(found))
        return fresh if fresh >= index else 0

    def read(self, key: str) -> Entry | None:
        """One key, as the leader of a quorum has it; None when it is not there."""
        _, item = self._do(lambda: self._short.kv.get(key, consistency="consistent"))
        return None if item is None else next(iter(self._tree([item]).values()))

    def _tree(self, items: Any) -> dict[str, Entry]:
        def read() -> dict[str, Entry]:
            return {
                item["Key"]: Entry(item["Value"] or b"", int(item["ModifyIndex"]))
                for item in items or []
            }

        return self._do(read)

    def write(self, key: str, value: Mapping[str, Any], index: int | None = None) -> bool:
        """Write a key as JSON; False when that was not done, because of `index`.

        With `index`, write only if the key was not changed since it had that index; 0: if it is not
        there.
        """
        text = _encode(value)
        return self._do(lambda: self._short.kv.put(key, text, cas=index)) is True

    def remove(self, key: str, index: int) -> bool:
        """Remove a key if it was not changed since it had `index`; False when it was."""
        return self._do(lambda: self._short.kv.delete(key, cas=index)) is True

    # -- sessions ---------------------------------------------------------------------------------

    def open_session(self, name: str, ttl_s: int) -> str:
        """A session that ends when it is not renewed for `ttl_s` seconds, and its locks with it."""
        session = self._do(lambda: self._short.session.create(name=name, ttl=ttl_s, lock_delay=1))
        return cast(str, session)

    def renew_session(self, session: str) -> bool:
        """Renew a session; False when it is over."""
        try:
            return bool(self._do(lambda: self._short.session.renew(session)))
        except NotFound:
            return False

    def _is_there(self) -> bool:
        try:
            self._do(lambda: self._short.status.leader())
        except Fault:
            return False
        return True

    def close_session(self, session: str) -> None:
        """End a session, and its locks with it."""
        self._do(lambda: self._short.session.destroy(session))

    def lock(self, key: str, value: Mapping[str, Any], session: str) -> bool:
        """Take a lock, or keep it; False when another session has it."""
        text = _encode(value)
        return self._do(lambda: self._short.kv.put(key, text, acquire=session)) is True

    # -- this host's service ----------------------------------------------------------------------

    def register(self, service: str, service_id: str, tag: str, ttl_s: int) -> None:
        """Register a service with a TTL check at the agent."""
        self._do(
            lambda: self._short.agent.service.register(
                service, service_id=service_id, tags=[tag], check=consul.Check.ttl(f"{ttl_s}s")
            )
        )

    def beat(self, service_id: str, is_well: bool, note: str) -> bool:
        """Set the service's check to passing or warning; False when the agent does not know it."""
        check = self._short.agent.check
        report = check.ttl_pass if is_well else check.ttl_warn
        check_id = f"service:{service_id}"
        try:
            return self._do(lambda: report(check_id, notes=note[:_LONGEST_NOTE])) is True
        except (Refused, Unavailable):
            if not self._is_there():
                raise
            return False

    def deregister(self, service_id: str) -> None:
        """Take the service away; one that is gone is success."""
        self._do(lambda: self._short.agent.service.deregister(service_id))

    def critical_services(self, service: str, tag: str) -> dict[str, bool]:
        """By the id of each instance of a service: whether all its registrations are critical.

        A host that moved to another agent may be registered at both.
        """
        _, items = self._do(lambda: self._short.health.service(service, tag=tag))

        def read() -> dict[str, bool]:
            found: dict[str, bool] = {}
            for item in items:
                is_critical = any(check["Status"] == "critical" for check in item["Checks"])
                service_id = item["Service"]["ID"]
                found[service_id] = found.get(service_id, True) and is_critical
            return found

        return self._do(read)
