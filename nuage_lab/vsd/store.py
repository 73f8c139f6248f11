"""Owns all objects of the simulated VSD and the indexes over them.

An object belongs to *scopes*: the IDs below which lists show it (its ancestors, the groups that it
is a member of, …). Never checks a rule and never talks to a client. No method switches greenlets,
so each is atomic.
"""

import time
import uuid as uuids

from . import journal as journals
from .errors import not_found


def now_ms():
    """Return the wall clock in epoch milliseconds, the unit of every date in the interface."""
    return int(time.time() * 1000)


class Entity:
    """One object: `values` is what clients see, `secret` what they must not."""

    __slots__ = ("enterprise_id", "id", "parent", "resource", "scopes", "secret", "values")

    def __init__(self, resource, object_id, parent, values):
        self.resource = resource
        self.id = object_id
        self.parent = parent
        self.values = values
        self.scopes = set()
        self.enterprise_id = None
        self.secret = None

    def ancestor(self, rest_name):
        """Return the nearest ancestor of a kind, or None; the object itself counts."""
        entity = self
        while entity is not None and entity.resource.rest_name != rest_name:
            entity = entity.parent
        return entity


class Store:
    """Objects by kind and ID, by scope, and by the values of indexed attributes."""

    def __init__(self, model, journal):
        self.model = model
        self.journal = journal
        self._objects = {rest: {} for rest in model.by_rest_name}  # by kind and ID
        self._scoped = {}  # {ID: object} by (kind, scope)
        self._index = {
            (rest, name): {} for rest, res in model.by_rest_name.items() for name in res.indexed
        }
        # None, or a dict with the (kind, ID) of each changed object in order, for the keeper.
        self.unsaved = None

    def note(self, entity):
        """Mark an object as unsaved; for changes that no other method here has made."""
        if self.unsaved is not None:
            self.unsaved[entity.resource.rest_name, entity.id] = None

    def put_back(self, entity):
        """Load an object of the process before with its scopes; the journal records nothing."""
        rest_name = entity.resource.rest_name
        self._objects[rest_name][entity.id] = entity
        for name in entity.resource.indexed:
            self._add_to_index(rest_name, name, entity)
        for scope_id in entity.scopes:
            self._scoped.setdefault((rest_name, scope_id), {})[entity.id] = entity

    def get(self, rest_name, object_id):
        """Return an object; raises the 404 of its kind."""
        entity = self._objects[rest_name].get(object_id)
        if entity is None:
            raise not_found(rest_name, object_id)
        return entity

    def find(self, rest_name, object_id):
        """Return an object or None."""
        return self._objects[rest_name].get(object_id)

    def find_by(self, rest_name, name, value):
        """Return the objects whose attribute has this value."""
        index = self._index.get((rest_name, name))
        if index is None:
            return [entity for entity in self.all(rest_name) if entity.values[name] == value]
        return list(index.get(value, {}).values())

    def all(self, rest_name):
        """Return the live view of all objects of a kind; copy it before a change."""
        return self._objects[rest_name].values()

    def within(self, rest_name, scope_id):
        """Return the live view of the objects of a kind in a scope; copy it before a change."""
        return self._scoped.get((rest_name, scope_id), {}).values()

    def candidates(self, rest_name, scope_id, equalities):
        """Return a small collection with every object of a scope that fulfils the equalities.

        It may hold others, too: the caller still filters.
        """
        best = self.all(rest_name) if scope_id is None else self.within(rest_name, scope_id)
        is_narrowed = False
        for name, value in equalities.items():
            index = self._index.get((rest_name, name))
            if index is not None:
                found = index.get(value, {}).values()
                if len(found) < len(best):
                    best, is_narrowed = found, True
        if scope_id is not None and self.model.by_rest_name[rest_name].is_own:
            return [
                entity
                for entity in best
                if entity.parent is not None and entity.parent.id == scope_id
            ]
        if is_narrowed and scope_id is not None:
            return [entity for entity in best if scope_id in entity.scopes]
        return best

    def count(self, rest_name):
        """Return how many objects of a kind exist."""
        return len(self._objects[rest_name])

    def insert(
        self, rest_name, parent, values, caller, object_id=None, scopes=(), enterprise_id=None
    ):
        """Create an object from checked values and return it.

        The scopes of its ancestors need not be given.
        """
        resource = self.model.by_rest_name[rest_name]
        object_id = object_id or str(uuids.uuid4())
        stamp = now_ms()
        full = dict(resource.defaults)
        full.update(values)
        full.update(
            ID=object_id,
            parentID=parent.id if parent else None,
            parentType=parent.resource.rest_name if parent else None,
            children=None,
            owner=caller.user_id,
            lastUpdatedBy=caller.user_id,
            creationDate=stamp,
            lastUpdatedDate=stamp,
            entityScope="ENTERPRISE" if parent else "GLOBAL",
        )
        entity = Entity(resource, object_id, parent, full)
        if rest_name == "enterprise":
            entity.enterprise_id = object_id
        else:
            entity.enterprise_id = enterprise_id or (parent.enterprise_id if parent else None)
        self._objects[rest_name][object_id] = entity
        self.note(entity)
        for name in resource.indexed:
            self._add_to_index(rest_name, name, entity)
        ancestor = parent
        while ancestor is not None:
            self._add_scope(entity, ancestor.id)
            ancestor = ancestor.parent
        for scope_id in scopes:
            self._add_scope(entity, scope_id)
        self.journal.record(journals.CREATE, entity, caller, self.container_uuid(entity))
        return entity

    def update(self, entity, changes, caller):
        """Write checked values into an object."""
        rest_name = entity.resource.rest_name
        for name, value in changes.items():
            if name in entity.resource.indexed:
                self._drop_from_index(rest_name, name, entity)
                entity.values[name] = value
                self._add_to_index(rest_name, name, entity)
            else:
                entity.values[name] = value
        self.touch(entity, caller)

    def touch(self, entity, caller):
        """Note that an object, or a list that belongs to it, has changed."""
        entity.values["lastUpdatedDate"] = now_ms()
        entity.values["lastUpdatedBy"] = caller.user_id
        self.note(entity)
        self.journal.record(journals.UPDATE, entity, caller, self.container_uuid(entity))

    def remove(self, entity, caller):
        """Delete one object; the caller has removed what was below it."""
        rest_name = entity.resource.rest_name
        self.note(entity)
        self.journal.record(journals.DELETE, entity, caller, self.container_uuid(entity))
        del self._objects[rest_name][entity.id]
        for name in entity.resource.indexed:
            self._drop_from_index(rest_name, name, entity)
        for scope_id in list(entity.scopes):
            self.drop_scope(entity, scope_id)
        for rest in self._objects:
            members = self._scoped.pop((rest, entity.id), None)
            for member in (members or {}).values():
                member.scopes.discard(entity.id)
                self.note(member)

    def remove_tree(self, entity, caller):
        """Delete an object and, before it, what lies below it."""
        for below in reversed(self.descendants(entity)):
            self.remove(below, caller)
        self.remove(entity, caller)

    def relate(self, one, other):
        """Make two objects members of each other's lists."""
        self._add_scope(one, other.id)
        self._add_scope(other, one.id)

    def separate(self, one, other):
        """Undo `relate`."""
        self.drop_scope(one, other.id)
        self.drop_scope(other, one.id)

    def add_scope(self, entity, scope_id):
        """Let the lists below `scope_id` show an object."""
        self._add_scope(entity, scope_id)

    def drop_scope(self, entity, scope_id):
        """Stop the lists below `scope_id` from showing an object."""
        entity.scopes.discard(scope_id)
        self.note(entity)
        members = self._scoped.get((entity.resource.rest_name, scope_id))
        if members is not None:
            members.pop(entity.id, None)
            if not members:
                del self._scoped[entity.resource.rest_name, scope_id]

    def descendants(self, entity):
        """Return the objects whose chain of parents leads to an object, the deepest last."""
        found = []
        for rest_name in self._objects:
            members = self._scoped.get((rest_name, entity.id))
            if members:
                found += [one for one in members.values() if _is_below(one, entity)]
        return sorted(found, key=_depth)

    def container_uuid(self, entity):
        """Return the UUID of the container that an object belongs to, or None."""
        rest_name = entity.resource.rest_name
        if rest_name == "container":
            return entity.values["UUID"]
        if rest_name in ("containerinterface", "containerresync"):
            return entity.parent.values.get("UUID")
        if rest_name == "vport":
            for interface in self.within("containerinterface", entity.id):
                return interface.values["containerUUID"]
        return None

    def _add_scope(self, entity, scope_id):
        entity.scopes.add(scope_id)
        self.note(entity)
        self._scoped.setdefault((entity.resource.rest_name, scope_id), {})[entity.id] = entity

    def _add_to_index(self, rest_name, name, entity):
        value = entity.values.get(name)
        if value is not None:
            self._index[rest_name, name].setdefault(value, {})[entity.id] = entity

    def _drop_from_index(self, rest_name, name, entity):
        value = entity.values.get(name)
        if value is not None:
            bucket = self._index[rest_name, name].get(value)
            if bucket is not None:
                bucket.pop(entity.id, None)
                if not bucket:
                    del self._index[rest_name, name][value]


def _is_below(entity, ancestor):
    parent = entity.parent
    while parent is not None:
        if parent is ancestor:
            return True
        parent = parent.parent
    return False


def _depth(entity):
    depth = 0
    while entity.parent is not None:
        depth, entity = depth + 1, entity.parent
    return depth
