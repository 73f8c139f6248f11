"""Owns the paths and verbs of the REST interface: request, simulator, reply (vsd §3, §6, §7.1).

Never touches a socket and never raises: every error of the simulator becomes a reply.
"""

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from . import bulk, listing
from .errors import (
    ApiError,
    Confirmation,
    Unauthorized,
    UnknownPath,
    malformed,
    not_allowed,
    not_found,
)
from .model import API_ROOTS
from .views import Computed, Views

JSON = "application/json"
HTML = "text/html;charset=utf-8"
_ALWAYS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "X-Nuage-Organization, X-Nuage-ProxyUser, X-Nuage-OrderBy, X-Nuage-FilterType,"
        " X-Nuage-Filter, X-Nuage-Page, X-Nuage-PageSize, X-Nuage-Count, X-Nuage-Custom,"
        " X-Nuage-ClientType"
    ),
    "Cache-Control": "no-cache",
    "Pragma": "No-cache",
    "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
}

# What an interface shows of its vPort.
_OF_THE_VPORT = frozenset(("policygroup", "dhcpoption", "dhcpv6option"))
_COOKIE = "rememberMe=deleteMe; Path=/nuage; Max-Age=0"


@dataclass
class Request:
    """One call; `header(name)` returns the value of a header or None.

    `query` keeps the last value of each name. `certificate_name` is the subject of the client's
    certificate on the port with mutual TLS.
    """

    method: str
    version: str
    path: str
    header: object
    query: dict = field(default_factory=dict)
    query_lists: dict = field(default_factory=dict)
    body: bytes = b""
    certificate_name: str | None = None
    caller: object = None
    release: str = ""

    @property
    def verb(self):
        """The method, but GET for HEAD, which asks for the same without the body."""
        return "GET" if self.method == "HEAD" else self.method

    @property
    def is_confirmed(self):
        """True if the caller has answered the question in advance."""
        return self.query.get("responseChoice") == "1"

    def json(self):
        """Return the parsed body; raises ApiError 400."""
        try:
            return json.loads(self.body)
        except RecursionError as problem:
            raise malformed("The body is nested too deeply.") from problem
        except ValueError as problem:
            raise malformed(f"The body is not JSON: {problem}") from problem


@dataclass
class Reply:
    """What goes back to the client."""

    status: int
    body: str = ""
    headers: dict = field(default_factory=dict)


def json_reply(status, value, headers=None):
    """Build a JSON reply."""
    text = json.dumps(value, separators=(",", ":"))
    return Reply(status, text, {**_ALWAYS, "Content-Type": JSON, **(headers or {})})


def html_reply(status, text, headers=None):
    """Build the kind of page that an application server or balancer sends."""
    phrase = HTTPStatus(status).phrase
    head = f"<head><title>{status} - {phrase}</title></head>"
    page = f"<html>{head}<body><h1>HTTP Status {status} - {text}</h1></body></html>"
    return Reply(status, page, {**_ALWAYS, "Content-Type": HTML, **(headers or {})})


def unauthorized():
    """Build the 401 (vsd §2.4)."""
    return html_reply(401, "Unauthorized", {"WWW-Authenticate": 'BASIC realm="application"'})


def empty(status, headers=None):
    """Build a reply without a body."""
    return Reply(status, "", {**_ALWAYS, **(headers or {})})


class Rest:
    """The REST interface of one simulator."""

    def __init__(self, simulator, events, newest=API_ROOTS["v6"]):
        """Serve an simulator; `newest` is the release behind the root v6."""
        self._newest = newest
        self._simulator = simulator
        self._events = events
        self._views = Views(simulator)

    def handle(self, request):
        """Answer a request; switches greenlets only for /events."""
        try:
            if request.version not in API_ROOTS:
                raise UnknownPath()
            request.release = (
                self._newest if request.version == "v6" else API_ROOTS[request.version]
            )
            request.caller = self._authenticate(request)
            return self._route(request)
        except Unauthorized:
            return unauthorized()
        except UnknownPath:
            return html_reply(404, "Not Found")
        except Confirmation as question:
            return json_reply(300, question.body())
        except ApiError as fault:
            return json_reply(fault.status, fault.body())

    def _authenticate(self, request):
        authority, header = self._simulator.authority, request.header
        organization, proxy_user = header("X-Nuage-Organization"), header("X-Nuage-ProxyUser")
        if request.certificate_name is not None:
            return authority.authenticate_certificate(
                request.certificate_name, organization, proxy_user
            )
        return authority.authenticate(header("Authorization"), organization, proxy_user)

    def _route(self, request):
        parts = [part for part in request.path.split("/") if part]
        if request.verb not in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            raise not_allowed(request.method, request.path)
        if self._simulator.settings.maintenance and request.verb != "GET":
            raise ApiError(
                409, "Maintenance", "The system is in maintenance mode; changes are refused."
            )
        if parts in (["me"], ["events"]):
            return self._special(request, parts[0])
        resource = self._resource(parts[0] if parts else "", request)
        if len(parts) == 1:
            return self._root(request, resource)
        entity = self._entity(request, resource, parts[1])
        if len(parts) == 2:
            return self._object(request, entity)
        if len(parts) == 3:
            return self._children(request, entity, self._resource(parts[2], request))
        raise UnknownPath()

    def _special(self, request, word):
        if request.verb != "GET" or (word == "events" and request.method != "GET"):
            raise not_allowed(request.method, request.path)
        if word == "me":
            return json_reply(
                200, [self._simulator.authority.me(request.caller)], {"Set-Cookie": _COOKIE}
            )
        body = self._events.answer(request.query.get("uuid"), request.caller, request.release)
        return json_reply(200, body)

    def _root(self, request, resource):
        if request.method in ("PUT", "DELETE"):
            return json_reply(200, bulk.perform(self._simulator, resource, request))
        if request.method == "POST" and "root" in resource.created_under:
            return self._create(request, resource, None)
        if "root" not in resource.listed_under:
            raise UnknownPath()
        if request.verb != "GET":
            raise not_allowed(request.method, request.path)
        return self._list(request, resource, None)

    def _object(self, request, entity):
        if request.verb not in entity.resource.verbs:
            raise not_allowed(request.method, request.path)
        if request.verb == "GET":
            return json_reply(
                200, [listing.render(entity, request.release)], listing.echo(_wish(request))
            )
        if request.method == "PUT":
            self._simulator.update(entity, request.json(), request.caller, request.is_confirmed)
            if self._simulator.settings.put_answers_200:
                return json_reply(200, [listing.render(entity, request.release)])
            return empty(204)
        self._simulator.delete(entity, request.caller, request.is_confirmed)
        return empty(204)

    def _children(self, request, parent, resource):
        word, method = parent.resource.name, request.verb
        if method == "GET" and word in resource.listed_under:
            return self._list(request, resource, parent)
        if method == "POST" and word in resource.created_under:
            return self._create(request, resource, parent)
        if method == "DELETE" and word in resource.cleared_under:
            self._simulator.clear(resource, parent, request.query, request.caller)
            return empty(204)
        if method in ("PUT", "PATCH") and word in resource.members_of:
            return self._set_members(request, resource, parent)
        if word in resource.listed_under | resource.created_under:
            raise not_allowed(request.method, request.path)
        raise UnknownPath()

    def _set_members(self, request, resource, owner):
        how = "replace"
        if request.method == "PATCH":
            how = (request.header("X-Nuage-PatchType") or "").lower()
            if how not in ("add", "remove"):
                raise malformed("X-Nuage-PatchType must be add or remove.")
        if resource.rest_name == "policygroup":
            self._simulator.ask(
                request.is_confirmed, "This changes the policy groups of a vPort. Continue?"
            )
        self._simulator.set_members(resource, owner, request.json(), request.caller, how)
        return empty(204)

    def _create(self, request, resource, parent):
        body = request.json()
        if isinstance(body, list):
            return json_reply(200, bulk.create(self._simulator, resource, parent, body, request))
        entity = self._simulator.create(resource, parent, body, request.caller)
        return json_reply(201, [listing.render(entity, request.release)])

    def _list(self, request, resource, parent):
        simulator, source, scope_id = self._simulator, self._simulator.store, None
        if resource.is_computed:
            source = Computed(
                self._views.below(resource, parent, request.query, request.caller, request.release)
            )
        elif parent is not None:
            scope_id = _scope_id(parent, resource)
        found, headers = listing.select(
            source, resource, scope_id, _wish(request), request.caller, simulator.settings
        )
        if not found:
            return empty(200, {"Content-Type": JSON, **headers})
        return json_reply(
            200, [listing.render(entity, request.release) for entity in found], headers
        )

    def _resource(self, word, request):
        resource = self._simulator.model.find(word, request.release)
        if resource is None or resource.rest_name == "me":
            raise UnknownPath()
        return resource

    def _entity(self, request, resource, object_id):
        if resource.is_computed:
            entity = self._views.get(resource, object_id, request.release)
        else:
            entity = self._simulator.store.get(resource.rest_name, object_id)
        is_shared = entity.enterprise_id is None
        if not is_shared and not request.caller.sees(entity.enterprise_id):
            raise not_found(resource.rest_name, object_id)
        return entity


def _scope_id(parent, resource):
    if parent.resource.rest_name == "containerinterface" and resource.rest_name in _OF_THE_VPORT:
        return parent.values["VPortID"]
    return parent.id


def _wish(request):
    header = request.header
    return listing.Wish(
        filter_text=header("X-Nuage-Filter"),
        filter_type=header("X-Nuage-FilterType"),
        order=header("X-Nuage-OrderBy"),
        page=header("X-Nuage-Page"),
        page_size=header("X-Nuage-PageSize"),
        group_by=header("X-Nuage-GroupBy"),
        attributes=header("X-Nuage-Attributes"),
    )
