"""Owns bulk creation, change and deletion of objects of one kind (vsd §6, recent releases only).

Never stops at the first refusal: each item has its own status.
"""

from .errors import ApiError, malformed, not_allowed, not_found
from .listing import render

_MAX_OBJECTS, _MAX_DELETE = 500, 150


def create(simulator, resource, parent, items, request):
    """Create each object of a list and return the reply body; `data` of an item is its object."""
    checked = _checked(items)
    return _body([_attempt_create(simulator, resource, parent, request, item) for item in checked])


def perform(simulator, resource, request):
    """Run a bulk PUT or DELETE and return the reply body; raises ApiError for a bad request."""
    if request.method not in resource.verbs:
        raise not_allowed(request.method, request.path)
    if request.method == "PUT":
        items = _checked(request.json())
        outcomes = [_attempt(simulator, resource, request, item.get("ID"), item) for item in items]
    else:
        ids = request.query_lists.get("id", [])
        if not ids or len(ids) > _MAX_DELETE:
            raise malformed(f"Name between 1 and {_MAX_DELETE} objects as id.")
        outcomes = [_attempt(simulator, resource, request, object_id, None) for object_id in ids]
    return _body(outcomes)


def _checked(items):
    if not isinstance(items, list) or len(items) > _MAX_OBJECTS:
        raise malformed(f"The body must be a list of at most {_MAX_OBJECTS} objects.")
    if not all(isinstance(item, dict) for item in items):
        raise malformed("Each entry of the list must be an object.")
    return items


def _body(outcomes):
    failures = sum(1 for outcome in outcomes if outcome["status"] >= 300)
    counts = {"failure": failures, "success": len(outcomes) - failures, "total": len(outcomes)}
    return {"response": outcomes, "responseMetadata": counts}


def _attempt_create(simulator, resource, parent, request, item):
    try:
        return {
            "status": 201,
            "data": render(
                simulator.create(resource, parent, item, request.caller), request.release
            ),
        }
    except ApiError as fault:
        return {"status": fault.status, "data": fault.body()}


def _attempt(simulator, resource, request, object_id, body):
    try:
        if not isinstance(object_id, str):
            raise malformed(
                f"The ID of each object must be a string, not {object_id!r}."[:200], "ID"
            )
        entity = simulator.store.get(resource.rest_name, object_id)
        if not request.caller.sees(entity.enterprise_id):
            raise not_found(resource.rest_name, object_id)
        if body is None:
            simulator.delete(entity, request.caller, request.is_confirmed)
        else:
            simulator.update(entity, body, request.caller, request.is_confirmed)
    except ApiError as fault:
        return {"status": fault.status, "data": fault.body()}
    return {"status": 204, "data": None}
