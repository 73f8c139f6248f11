"""Owns the admin interface: HTTP and JSON on a unix socket, for tests, the lab's VSC and demos.

Never shows an API key or an Authorization header. Passwords appear in an export only, because a
user cannot be planted without one. A malformed body is answered by a 400.
"""

import json

import bottle

from . import export, tree

_OPS = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete"}
_MAX_WAIT_S = 600


class Admin:
    """Serves the admin interface as a bottle application."""

    def __init__(self, simulator, vsc, faults, log):
        self._simulator = simulator
        self._vsc = vsc
        self._faults = faults
        self._log = log
        self.app = bottle.Bottle()
        self.app.default_error_handler = _error
        for method, path, callback in (
            ("GET", "/health", self.health),
            ("POST", "/vsc/resolve", self.resolve),
            ("POST", "/vsc/report", self.report),
            ("POST", "/vsc/vrs", self.vrs),
            ("GET", "/vsc/changes", self.changes),
            ("GET", "/vsc/networks", self.networks),
            ("GET", "/vsc/endpoints", self.endpoints),
            ("POST", "/faults", self.add_fault),
            ("GET", "/faults", self.list_faults),
            ("DELETE", "/faults", self.clear_faults),
            ("POST", "/config", self.configure),
            ("GET", "/config", self.show_configuration),
            ("POST", "/expire-keys", self.expire_keys),
            ("POST", "/reset", self.reset),
            ("GET", "/requests", self.requests),
            ("GET", "/counters", self.counters),
            ("GET", "/tree", self.tree),
            ("GET", "/export", self.export),
        ):
            self.app.route(path, method=method, callback=callback)

    def health(self):
        """Answer that the simulator is alive, and how many containers it has."""
        return {"ok": True, "containers": self._simulator.store.count("container")}

    def resolve(self):
        """Resolve the entity of a VRS."""
        body = _body()
        return self._vsc.resolve(body.get("uuid"), body.get("mac"))

    def report(self):
        """Note the state of an entity."""
        body = _body()
        names = ("uuid", "mac", "state", "hypervisor_ip", "vrs_id")
        return _or_400(self._vsc.report, *(body.get(name) for name in names)) or {}

    def vrs(self):
        """Mark a VRS as `lost` or `back` now, without waiting for silence or polls of its VSC."""
        body = _body()
        note = {"lost": self._vsc.lost, "back": self._vsc.heard}.get(body.get("state"))
        if note is None or not isinstance(body.get("vrs_id"), str):
            raise bottle.HTTPError(400, "state must be lost or back, and vrs_id a text.")
        note(body["vrs_id"])
        return {}

    def changes(self):
        """Return the changes after `since`; waits up to `timeout` seconds for one.

        A `vrs_id` counts as a sign of life of that VRS. Switches greenlets while it waits.
        """
        journal, query = self._simulator.journal, bottle.request.query
        if query.vrs_id:
            self._vsc.heard(query.vrs_id)
        if "since" not in query:
            return {"seq": journal.seq, "changes": [], "lost": False}
        since = _number("since", query["since"])
        timeout_s = min(_or_400(float, query.get("timeout", "0")), _MAX_WAIT_S)
        if since <= journal.seq:
            journal.wait(since, timeout_s)
        entries, is_lost = journal.since(since)
        changes = [_change(entry) for entry in entries]
        return {
            "seq": entries[-1].seq if entries else journal.seq,
            "changes": changes,
            "lost": is_lost,
        }

    def networks(self):
        """Return all networks."""
        return {"subnets": self._vsc.networks()}

    def endpoints(self):
        """Return the running endpoints of all hosts."""
        return {"endpoints": self._vsc.endpoints()}

    def add_fault(self):
        """Order a fault."""
        return {"id": _or_400(self._faults.add, _body())}

    def list_faults(self):
        """Return the ordered faults with their hits."""
        return {"faults": self._faults.list()}

    def clear_faults(self):
        """Forget the ordered faults."""
        self._faults.clear()
        return {}

    def configure(self):
        """Change settings and return all of them."""
        _or_400(self._simulator.settings.change, _body())
        return self._simulator.settings.as_dict()

    def show_configuration(self):
        """Return all settings."""
        return self._simulator.settings.as_dict()

    def expire_keys(self):
        """Make all API keys invalid."""
        self._simulator.authority.expire_keys()
        return {}

    def reset(self):
        """Bring the seeded state back; settings stay as they are."""
        self._simulator.reset()
        self._faults.clear()
        self._log.clear()
        return {}

    def requests(self):
        """Return the requests after `since`."""
        since = _number("since", bottle.request.query.get("since", "0"))
        return {"seq": self._log.seq, "requests": self._log.since(since)}

    def counters(self):
        """Return how often each kind of request was served."""
        return self._log.counters()

    def tree(self):
        """Return the whole tree."""
        return tree.picture(self._simulator.store)

    def export(self):
        """Return the tree as the text of a seed file."""
        bottle.response.content_type = "application/yaml"
        return export.text(self._simulator)


def _change(entry):
    change = {
        "seq": entry.seq,
        "op": _OPS[entry.op],
        "type": entry.rest_name,
        "id": entry.object_id,
    }
    if entry.uuid is not None:
        change["uuid"] = entry.uuid
    return change


def _body():
    try:
        text = bottle.request.environ["wsgi.input"].read()
        body = json.loads(text) if text else {}
    except (OSError, ValueError, RecursionError) as problem:
        raise bottle.HTTPError(400, f"The body is not JSON: {problem}") from problem
    if not isinstance(body, dict):
        raise bottle.HTTPError(400, "The body must be a JSON object.")
    return body


def _number(name, text):
    if not (text.isascii() and text.isdigit()):
        raise bottle.HTTPError(
            400, f"{name} must be a whole number that is not negative, not {text!r}."
        )
    return int(text)


def _or_400(work, *arguments):
    try:
        return work(*arguments)
    except (ValueError, TypeError) as problem:
        raise bottle.HTTPError(400, str(problem)) from problem


def _error(error):
    bottle.response.content_type = "application/json"
    return json.dumps({"error": str(error.body)})
