"""Owns the check of a request body against the model: names, types, choices, lengths, presence.

Never looks at other objects; what depends on them is in the rules modules.
"""

from typing import Any

from .errors import invalid, malformed
from .model import Field, Limits, Resource

_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "enum": str,
    "time": (str, int),
    "integer": int,
    "long": int,
    "float": (int, float),
    "list": list,
    "object": dict,
}
_ITEM_KINDS: dict[str, type] = {"string": str, "enum": str, "object": dict}
_WIDTHS = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}


def accepted_values(
    resource: Resource,
    body: object,
    is_create: bool,
    allows_unknown: bool = False,
    is_system: bool = False,
) -> dict[str, Any]:
    """Return the checked attributes of a body that a client may set; ignores read-only ones.

    The system itself (a seed, which checks its own words) may omit a mandatory attribute that has a
    usual value. Raises ApiError 400 for a body that is not an object, and 409 for a refused value
    or name of an attribute.
    """
    if not isinstance(body, dict):
        raise malformed("The body must be a JSON object.")
    for name in () if allows_unknown or is_system else body:
        if name not in resource.fields:
            raise invalid(name, f"{name} is not an attribute of {resource.rest_name}.")
    accepted = {}
    for field in resource.writable:
        if field.name not in body:
            usual = field.default if is_system else field.specified
            if is_create and field.is_required and field.is_enforced and usual is None:
                raise invalid(field.name, "This value is mandatory.")
            continue
        is_kept_secret = field.is_secret and body[field.name] is None
        if not is_create and (field.is_create_only or is_kept_secret):
            continue
        accepted[field.name] = _checked(field, body[field.name], is_create)
    return accepted


def _checked(field: Field, value: object, is_create: bool) -> object:
    if value is None:
        return _cleared(field, is_create)
    if field.type == "boolean":
        if not isinstance(value, bool):
            raise invalid(field.name, "This value must be true or false.")
        return value
    if isinstance(value, bool) or not isinstance(value, _KINDS[field.type]):
        raise invalid(field.name, f"This value must be of type {field.type}.")
    if isinstance(value, str):
        _check_text(field, value)
    elif isinstance(value, list):
        _check_items(field, value)
    elif isinstance(value, (int, float)):
        _check_limits(field, value, _WIDTHS.get(field.type, (None, None)), "This value")
        _check_limits(field, value, field.range, "This value")
    return value


def _cleared(field: Field, is_create: bool) -> object:
    if not (field.is_required and field.is_enforced):
        return field.default if is_create else None
    if not is_create:
        raise invalid(field.name, "This value cannot be null.", 5001)
    if field.specified is None:
        raise invalid(field.name, "This value is mandatory.")
    return field.specified


def _check_text(field: Field, value: str) -> None:
    if field.type == "enum":
        _check_choice(field, value)
        return
    if field.is_required and field.is_enforced and not value:
        raise invalid(field.name, "This value is mandatory.")
    for limits in (field.length, field.own_length):
        _check_limits(field, len(value), limits, "The length of this value")
    for pattern in (field.pattern, field.own_pattern):
        if pattern is not None and not pattern.fullmatch(value):
            raise invalid(field.name, f"This value must match {pattern.pattern}.")


def _check_items(field: Field, value: list[Any]) -> None:
    if field.item is None:
        return
    for item in value:
        if not isinstance(item, _ITEM_KINDS[field.item]):
            raise invalid(field.name, f"This value must be a list of type {field.item}.")
        if field.item == "enum":
            _check_choice(field, item)


def _check_choice(field: Field, value: object) -> None:
    if value not in field.choices:
        raise invalid(field.name, f"{value} is not one of {', '.join(field.choices)}.")


def _check_limits(field: Field, measured: float, limits: Limits, what: str) -> None:
    low, high = limits
    if (low is not None and measured < low) or (high is not None and measured > high):
        bounds = f"between {low} and {high}"
        if low is None:
            bounds = f"at most {high}"
        elif high is None:
            bounds = f"at least {low}"
        raise invalid(field.name, f"{what} must be {bounds}.")
