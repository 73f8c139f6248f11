"""Owns what is attached to any object: metadata and permissions (vsd §7.1, §9, Annex A).

Same hooks as rules.py. Never changes the object that something is attached to.
"""

from . import journal
from .errors import conflict, invalid, not_found
from .rules import Rules


class MetadataRules(Rules):
    """Metadata names the object that it describes."""

    def complete(self, rest_name, parent, values, caller):
        """Fill in the ID and the kind of the object that the metadata describes."""
        super().complete(rest_name, parent, values, caller)
        if rest_name == "metadata":
            values["assocEntityID"] = parent.id
        values["assocEntityType"] = parent.resource.rest_name if parent is not None else None


class PermissionRules(Rules):
    """Allows a group, a user or an enterprise something on an object, once (4504).

    Clients see a permission come and go as the events GRANT and REVOKE.
    """

    def complete(self, rest_name, parent, values, caller):
        """Find who is permitted and fill in name, kind and action.

        Raises the 409 without such an ID or for a second permission, the 404 for an ID that the
        caller cannot see.
        """
        super().complete(rest_name, parent, values, caller)
        entity_id = values.get("permittedEntityID") or values.get("associatedGroupID")
        if not entity_id:
            raise invalid("permittedEntityID", "This value is mandatory.")
        found = [self.store.find(kind, entity_id) for kind in ("group", "user", "enterprise")]
        entity = next(
            (one for one in found if one is not None and caller.sees(one.enterprise_id)), None
        )
        if entity is None:
            raise not_found("group", entity_id)
        if any(
            one.parent is parent and one.values["permittedEntityID"] == entity_id
            for one in self.store.within("permission", parent.id)
        ):
            raise conflict(
                "Permission exists",
                f"A permission of {entity_id} exists already.",
                "permittedEntityID",
                4504,
            )
        name = entity.values.get("name") or entity.values.get("userName")
        values.update(
            permittedEntityID=entity_id,
            permittedEntityName=name,
            permittedEntityType=entity.resource.rest_name,
        )
        values["name"] = values.get("name") or name
        values["permittedAction"] = values.get("permittedAction") or "USE"

    def created(self, entity, caller):
        """Record the GRANT."""
        self.store.journal.record(
            journal.GRANT, entity.parent, caller, self.store.container_uuid(entity.parent)
        )

    def deleted(self, entity, caller):
        """Record the REVOKE, unless the object itself was deleted."""
        if self.store.find(entity.parent.resource.rest_name, entity.parent.id) is entity.parent:
            self.store.journal.record(
                journal.REVOKE, entity.parent, caller, self.store.container_uuid(entity.parent)
            )
