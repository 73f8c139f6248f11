"""Owns the lists computed on request: statistics, event logs, user contexts (vsd §9, §7.1).

Never changes an object. It returns objects of the model's kinds that are in no store.
"""

from . import naming, statistics
from .errors import not_found
from .listing import render_values
from .store import Entity

_NETWORK_NAMES = ("parentID", "domainID", "zoneID", "attachedNetworkID")


class Views:
    """The computed lists of one simulator."""

    def __init__(self, simulator):
        self._simulator = simulator
        self._makers = {
            "statistics": self._statistics,
            "eventlog": self._event_logs,
            "usercontext": self._user_contexts,
        }

    def below(self, resource, parent, query, caller, release):
        """Return the objects of a list; `parent` is None for the list at the base URL.

        Raises ApiError for a bad query.
        """
        return self._makers[resource.rest_name](resource, parent, query, caller, release)

    def get(self, resource, object_id, release):
        """Return one computed object; raises the 404 of its kind."""
        if resource.rest_name == "eventlog":
            for entry in self._entries():
                if _log_id(entry) == object_id:
                    return self._event_log(resource, entry, release)
        raise not_found(resource.rest_name, object_id)

    def _statistics(self, resource, parent, query, caller, release):
        store = self._simulator.store
        interfaces = [parent] if parent.resource.rest_name == "containerinterface" else []
        interfaces += store.within("containerinterface", parent.id)
        if parent.resource.rest_name == "vrs":
            for container in store.within("container", parent.id):
                interfaces += store.within("containerinterface", container.id)
        running = [
            (one.id, one.values["creationDate"] / 1000)
            for one in interfaces
            if one.parent.values["status"] == "RUNNING"
        ]
        object_id = naming.stable_id("statistics", parent.id)
        values = statistics.measure(running, query, self._simulator.settings)
        return [_made(resource, object_id, parent, parent.enterprise_id, values)]

    def _event_logs(self, resource, parent, query, caller, release):
        return [
            self._event_log(resource, entry, release)
            for entry in self._entries()
            if _concerns(entry, parent)
        ]

    def _event_log(self, resource, entry, release):
        kind = self._simulator.model.by_rest_name[entry.rest_name]
        values = {
            "type": entry.op,
            "entityType": entry.rest_name,
            "entityID": entry.object_id,
            "entityParentID": entry.values.get("parentID"),
            "entityParentType": entry.values.get("parentType"),
            "entities": [render_values(kind, entry.values, release)],
            "eventReceivedTime": entry.time_ms,
            "requestID": entry.request_id,
            "user": entry.user_name,
            "enterprise": entry.enterprise_name,
        }
        return _made(resource, _log_id(entry), None, entry.enterprise_id, values)

    def _user_contexts(self, resource, parent, query, caller, release):
        settings = self._simulator.settings
        object_id = naming.stable_id("usercontext", caller.user_id)
        values = {
            "pageSize": settings.page_default,
            "maintenanceModeEnabled": settings.maintenance,
            "statisticsEnabled": True,
            "flowCollectionEnabled": False,
            "statsTSDBServerAddress": "localhost:4242",
        }
        return [_made(resource, object_id, None, caller.enterprise_id, values)]

    def _entries(self):
        return self._simulator.journal.since(0)[0]


class Computed:
    """Objects that were just made, in the form that `listing.select` expects of a store."""

    def __init__(self, entities):
        self._entities = entities

    def candidates(self, rest_name, scope_id, equalities):
        """Return all of them."""
        return self._entities


def _made(resource, object_id, parent, enterprise_id, values):
    owner = {"ID": object_id}
    if parent is not None:
        owner.update(parentID=parent.id, parentType=parent.resource.rest_name)
    entity = Entity(resource, object_id, parent, {**resource.defaults, **owner, **values})
    entity.enterprise_id = enterprise_id
    return entity


def _log_id(entry):
    return naming.stable_id("eventlog", str(entry.seq))


def _concerns(entry, parent):
    if parent.resource.rest_name == "enterprise":
        return entry.enterprise_id == parent.id
    return entry.object_id == parent.id or any(
        entry.values.get(name) == parent.id for name in _NETWORK_NAMES
    )
