"""Owns the check of a request body against the model: types, enumerations, lengths, mandatory attributes.

Never looks at other objects; what depends on them is in the rules modules.
"""

from .errors import invalid, malformed

_KINDS = {"string": str, "enum": str, "time": (str, int), "integer": int, "float": (int, float), "list": list,
          "object": dict}  # fmt: skip


def accepted_values(resource, body, is_create):
    """Return the attributes of a body that a client may set, checked; unknown and read-only ones are passed over.

    Raises ApiError 400 for a body that is no object and 409 for a value that is refused.
    """
    if not isinstance(body, dict):
        raise malformed("The body must be a JSON object.")
    accepted = {}
    for field in resource.writable:
        if field.name not in body:
            if is_create and field.is_required and field.default is None:
                raise invalid(field.name, "This value is mandatory.")
            continue
        if field.is_create_only and not is_create:
            continue
        accepted[field.name] = _checked(field, body[field.name], is_create)
    return accepted


def _checked(field, value, is_create):
    if value is None:
        if field.is_required:
            if is_create:
                raise invalid(field.name, "This value is mandatory.")
            raise invalid(field.name, "This value cannot be null.", 5001)
        return field.default if is_create else None
    if field.type == "boolean":
        if not isinstance(value, bool):
            raise invalid(field.name, "This value must be true or false.")
        return value
    if isinstance(value, bool) or not isinstance(value, _KINDS[field.type]):
        raise invalid(field.name, f"This value must be of type {field.type}.")
    if field.type == "enum" and value not in field.choices:
        raise invalid(field.name, f"{value} is not one of {', '.join(field.choices)}.")
    if isinstance(value, str):
        _check_text(field, value)
    elif isinstance(value, (int, float)):
        _check_limits(field, value, field.range, "This value")
    return value


def _check_text(field, value):
    if field.is_required and not value:
        raise invalid(field.name, "This value is mandatory.")
    _check_limits(field, len(value), field.length, "The length of this value")
    if field.pattern is not None and not field.pattern.fullmatch(value):
        raise invalid(field.name, f"This value must match {field.pattern.pattern}.")


def _check_limits(field, measured, limits, what):
    low, high = limits
    if (low is not None and measured < low) or (high is not None and measured > high):
        raise invalid(field.name, f"{what} must be between {low} and {high}.")
