"""Consul, through python-consul: keys with compare-and-set, blocking queries, sessions, this host's service.

Owns the connections. The library knows no time limit and sends the token in the URL: the HTTP client below gives each
call both limits and sends a header. Everything may switch greenlets; no text of this module ever holds the token.
"""

from __future__ import annotations

import dataclasses
import json
import os
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import consul.base
import gevent
import requests
import urllib3

from nuage_appliance.base import system_cas
from nuage_appliance.base.faults import Denied, Fault, NotFound, Refused, Unavailable

_CONNECT_S = 3.0
_CALL_S = 5.0
_LARGEST_ANSWER_BYTES = (
    4 << 20
)  # decoding more would hold the hub; it is the keys of some 4,000 networks
_NEEDED = 'it needs key_prefix "nuage-libnetwork/" write, service "nuage-libnetwork" write, session_prefix write and node_prefix read'


class _Client(consul.base.HTTPClient):
    """What python-consul speaks HTTP with."""

    def __init__(self, url: str, token: str, cafile: str) -> None:
        self.base_uri, self.seconds = url, _CALL_S
        self._session = requests.Session()
        self._session.trust_env = False  # neither a proxy nor credentials of the environment
        self._session.verify = cafile or system_cas.bundle() or True
        if token:
            self._session.headers["X-Consul-Token"] = token

    def _call(
        self, verb: str, callback: Callable[[Any], Any], path: str, params: Any, data: Any = None
    ) -> Any:
        connect_s = min(_CONNECT_S, self.seconds)
        with gevent.Timeout(
            self.seconds + connect_s
        ):  # the library's limit counts each piece alone
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

    def get(self, callback, path, params=None):
        return self._call("GET", callback, path, params)

    def put(self, callback, path, params=None, data=""):
        return self._call("PUT", callback, path, params, data)

    def delete(self, callback, path, params=None):
        return self._call("DELETE", callback, path, params)

    def post(self, callback, path, params=None, data=""):
        return self._call("POST", callback, path, params, data)


class _Library(consul.base.Consul):
    """python-consul with our HTTP client. The library lets the environment overrule what it is told; the configuration file counts here."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        for name in [name for name in os.environ if name.startswith("CONSUL_HTTP_")]:
            del os.environ[name]
        super().__init__()
        self.token, self.scheme = None, urllib.parse.urlsplit(client.base_uri).scheme

    def connect(self, host, port, scheme, verify=True, cert=None):
        return self._client


@dataclasses.dataclass(frozen=True)
class Entry:
    """A key's value, and the index that a compare-and-set needs."""

    value: bytes
    index: int


class Consul:
    """One agent or server. Faults: Denied (token, certificate), Refused, Unavailable."""

    def __init__(self, url: str, token: str, cafile: str) -> None:
        self.url = url
        self._short, self._long = (_Library(_Client(url, token, cafile)) for _ in range(2))
        self._problem = f"Consul at {url} was not reached yet"

    @property
    def problem(self) -> str:
        """Why Consul could not be used at the last try, or an empty text."""
        return self._problem

    def _do(self, work: Callable[[], Any]) -> Any:
        try:
            answer = work()
        except Fault:
            raise
        except consul.ACLPermissionDenied:
            raise self._failed(Denied, f"refuses the token of consultoken; {_NEEDED}") from None
        except consul.ACLDisabled:
            raise self._failed(
                Denied,
                "refuses the token of consultoken, because its ACLs are switched off; leave consultoken out",
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
            reason = getattr(
                getattr(error.args[0] if error.args else None, "reason", None), "args", None
            ) or ["the handshake failed"]
            said = getattr(reason[0], "verify_message", "") or "the handshake failed"
            raise self._failed(
                Denied,
                f"cannot be trusted ({said}); set consulcafile to the CA that signed its certificate",
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
                "answered with something that Consul does not say, or with more than 4 MiB",
            ) from None
        self._problem = ""
        return answer

    def _failed(self, kind: type[Fault], what: str) -> Fault:
        self._problem = f"Consul at {self.url} {what}"
        return kind(self._problem)

    def limit(self, seconds: float) -> None:
        """Give each call from now on so many seconds."""
        self._short.http.seconds = seconds

    # -- keys -------------------------------------------------------------------------------------

    def read_tree(self, prefix: str) -> dict[str, Entry]:
        """Every key below a prefix; complete or raises."""
        return self._tree(self._do(lambda: self._short.kv.get(prefix, recurse=True))[1])

    def wait_for_change(self, prefix: str, index: int, wait_s: float) -> int:
        """The index of a prefix once it is not `index` any more, or after `wait_s` seconds; with 0 at once."""
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
        """One key, as the leader of a quorum has it."""
        _, item = self._do(lambda: self._short.kv.get(key, consistency="consistent"))
        return None if item is None else next(iter(self._tree([item]).values()))

    def _tree(self, items: Any) -> dict[str, Entry]:
        return self._do(
            lambda: {
                item["Key"]: Entry(item["Value"] or b"", int(item["ModifyIndex"]))
                for item in items or []
            }
        )

    def write(self, key: str, value: Mapping[str, Any], index: int | None = None) -> bool:
        """Write a key; with `index` only when it is still what was read (0: not there). False when it is not."""
        text = json.dumps(value, sort_keys=True)
        return self._do(lambda: self._short.kv.put(key, text, cas=index)) is True

    def remove(self, key: str, index: int) -> bool:
        """Remove a key when it is still what was read."""
        return self._do(lambda: self._short.kv.delete(key, cas=index)) is True

    # -- sessions ---------------------------------------------------------------------------------

    def open_session(self, name: str, ttl_s: int) -> str:
        """A session that ends when it is not renewed for `ttl_s` seconds; its locks are let go then."""
        return self._do(lambda: self._short.session.create(name=name, ttl=ttl_s, lock_delay=1))

    def renew_session(self, session: str) -> bool:
        """False when the session is over."""
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
        """End a session; its locks are let go."""
        self._do(lambda: self._short.session.destroy(session))

    def lock(self, key: str, value: Mapping[str, Any], session: str) -> bool:
        """Take a lock, or keep it; False when another session has it."""
        return (
            self._do(
                lambda: self._short.kv.put(key, json.dumps(value, sort_keys=True), acquire=session)
            )
            is True
        )

    # -- this host's service ----------------------------------------------------------------------

    def register(self, service: str, service_id: str, tag: str, ttl_s: int) -> None:
        """Register a service with a TTL check at the agent."""
        self._do(
            lambda: self._short.agent.service.register(
                service, service_id=service_id, tags=[tag], check=consul.Check.ttl(f"{ttl_s}s")
            )
        )

    def beat(self, service_id: str, is_well: bool, note: str) -> bool:
        """Pass the service's check, or set it to warning; False when the agent does not know it (any more)."""
        check = self._short.agent.check
        report = check.ttl_pass if is_well else check.ttl_warn
        try:
            return self._do(lambda: report(f"service:{service_id}", notes=note[:500])) is True
        except (Refused, Unavailable):
            if not self._is_there():
                raise
            return False

    def deregister(self, service_id: str) -> None:
        """Take the service away; one that is gone is success."""
        self._do(lambda: self._short.agent.service.deregister(service_id))

    def critical_services(self, service: str, tag: str) -> dict[str, bool]:
        """The ids of a service's instances, and whether every registration of each is critical."""
        _, items = self._do(lambda: self._short.health.service(service, tag=tag))

        def read() -> dict[str, bool]:
            found: dict[str, bool] = {}
            for item in items:
                is_critical = any(check["Status"] == "critical" for check in item["Checks"])
                service_id = item["Service"]["ID"]
                found[service_id] = found.get(service_id, True) and is_critical
            return found

        return self._do(read)
