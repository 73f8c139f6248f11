"""Owns the bulk change and bulk deletion of objects of one kind (vsd-contract §6, recent releases only).

Never stops at the first refusal: each item has its own status.
"""

from .errors import ApiError, malformed, not_allowed, not_found

_MAX_PUT, _MAX_DELETE = 500, 150


def perform(engine, resource, request):
    """Run a bulk request and return its body; raises ApiError if the request as a whole makes no sense."""
    if request.method not in resource.verbs:
        raise not_allowed(request.method, request.path)
    if request.method == "PUT":
        items = request.json()
        if not isinstance(items, list) or len(items) > _MAX_PUT or not all(isinstance(item, dict) for item in items):
            raise malformed(f"The body must be a list of at most {_MAX_PUT} objects.")
        outcomes = [_attempt(engine, resource, request, item.get("ID"), item) for item in items]
    else:
        ids = request.query_lists.get("id", [])
        if not ids or len(ids) > _MAX_DELETE:
            raise malformed(f"Name between 1 and {_MAX_DELETE} objects as id.")
        outcomes = [_attempt(engine, resource, request, object_id, None) for object_id in ids]
    failures = sum(1 for outcome in outcomes if outcome["status"] >= 300)
    counts = {"failure": failures, "success": len(outcomes) - failures, "total": len(outcomes)}
    return {"response": outcomes, "responseMetadata": counts}


def _attempt(engine, resource, request, object_id, body):
    try:
        entity = engine.store.get(resource.rest_name, object_id)
        if not request.caller.sees(entity.enterprise_id):
            raise not_found(resource.rest_name, object_id)
        if body is None:
            engine.delete(entity, request.caller, request.is_confirmed)
        else:
            engine.update(entity, body, request.caller, request.is_confirmed)
    except ApiError as fault:
        return {"status": fault.status, "data": fault.body()}
    return {"status": 204, "data": None}
