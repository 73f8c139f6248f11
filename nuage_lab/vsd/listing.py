"""Owns collections as clients see them: filter, order, groups, pages, headers (vsd §3.2, §4, §5).

Also owns how one object looks in a reply of a given release. Never changes an object.
"""

import re
from dataclasses import dataclass

from . import filters
from .errors import ApiError, malformed

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*\Z")


@dataclass
class Wish:
    """What the headers of a collection request ask for."""

    filter_text: str | None = None
    filter_type: str | None = None
    order: str | None = None
    page: str | None = None
    page_size: str | None = None
    group_by: str | None = None
    attributes: str | None = None


@dataclass
class Row:
    """One combination of the values of the attributes that a client groups by."""

    values: dict


def render(entity, release):
    """Return an object, or a Row, as a reply of a release shows it."""
    if isinstance(entity, Row):
        return entity.values
    return render_values(entity.resource, entity.values, release)


def render_values(resource, values, release):
    """Return the values of an object, which may be gone, as a reply of a release shows them."""
    shown = {name: values.get(name) for name in resource.visible(release)}
    if resource.embedded is not None and shown.get("interfaces"):
        names = resource.embedded.visible(release)
        shown["interfaces"] = [
            {name: one.get(name) for name in names} for one in shown["interfaces"]
        ]
    return shown


def select(store, resource, scope_id, wish, caller, settings):
    """Return (objects or Rows of the page, headers) for a collection GET.

    `store` is anything with `candidates`. Raises ApiError 400 for a header that cannot be parsed.
    """
    names, orders = _order(resource, wish.order)
    headers = {"X-Nuage-OrderBy": ", ".join(names)}
    chosen = _filtered(store, resource, scope_id, wish, settings)
    if not caller.is_root:
        chosen = [entity for entity in chosen if caller.sees(entity.enterprise_id)]
    grouped = _grouping(resource, wish)
    if grouped:
        chosen = _rows(_sorted(chosen, orders), grouped)
        orders = []
    headers["X-Nuage-Count"] = str(len(chosen))
    page, size = _window(wish, settings)
    if wish.page is not None or wish.filter_text is not None:
        headers["X-Nuage-Page"] = "-1" if page is None else str(page)
        headers["X-Nuage-PageSize"] = str(size)
    headers.update(echo(wish))
    chosen = _sorted(chosen, orders)
    if page is None:
        return chosen[: min(settings.max_response, settings.page_max)], headers
    return chosen[page * size : (page + 1) * size], headers


def _sorted(chosen, orders):
    if len(chosen) < 2:
        return list(chosen)
    for name, is_descending in reversed(orders):
        chosen = sorted(chosen, key=_key(name), reverse=is_descending)
    return chosen


def _grouping(resource, wish):
    if (wish.group_by or "").lower() != "true":
        return []
    names = [name.strip() for name in (wish.attributes or "").split(",") if name.strip()]
    for name in names:
        field = resource.fields.get(name)
        if field is None or field.is_hidden:
            raise malformed(
                f"{name} is not an attribute of {resource.rest_name} to group by.", name
            )
    if not names:
        raise malformed("X-Nuage-Attributes must name the attributes to group by.")
    return names


def _rows(chosen, names):
    rows = {}
    for entity in chosen:
        values = {name: entity.values.get(name) for name in names}
        rows.setdefault(repr(values), Row(values))
    return list(rows.values())


def echo(wish):
    """Return the headers that repeat the filter of a request."""
    if wish.filter_text is None:
        return {}
    kind = (wish.filter_type or "predicate").lower()
    return {
        "X-Nuage-Filter": wish.filter_text,
        "X-Nuage-FilterType": "predicate" if kind == "predicate" else kind,
    }


def _filtered(store, resource, scope_id, wish, settings):
    text = wish.filter_text
    if text is None or not text.strip():
        return store.candidates(resource.rest_name, scope_id, {})
    if (wish.filter_type or "predicate").lower() in ("plain", "text"):
        parsed = filters.plain(text, resource)
    else:
        try:
            parsed = filters.parse(text, resource)
        except filters.UnknownAttribute as problem:
            if settings.lenient_filter:
                return []
            what = f"{problem.name} is not an attribute of {resource.rest_name}"
            text = f"{what} that can be filtered on."
            raise ApiError(400, "Invalid filter", text, problem.name) from problem
    candidates = store.candidates(resource.rest_name, scope_id, parsed.equalities)
    return [entity for entity in candidates if parsed.matches(entity.values)]


def _order(resource, text):
    if text is None or not text.strip():
        return [f"{resource.default_order} ASC"], [(resource.default_order, False)]
    names, orders = [], []
    for part in text.split(","):
        words = part.split()
        is_known = len(words) == 1 or (len(words) == 2 and words[1].upper() in ("ASC", "DESC"))
        if not is_known:
            raise malformed(f"The order {text!r} cannot be parsed.")
        field = resource.fields.get(words[0])
        if field is None or not (field.is_orderable or field.name == resource.default_order):
            raise malformed(
                f"{words[0]} is not an attribute of {resource.rest_name} to order by.", words[0]
            )
        direction = words[1].upper() if len(words) == 2 else "ASC"
        names.append(f"{words[0]} {direction}")
        orders.append((words[0], direction == "DESC"))
    return names, orders


def _key(name):
    def key(entity):
        value = entity.values.get(name)
        if isinstance(value, bool) or value is None:
            return (0, 0, str(value or ""))
        if isinstance(value, (int, float)):
            return (1, value, "")
        return (2, 0, str(value))

    return key


def _window(wish, settings):
    size = settings.page_default
    if wish.page_size is not None:
        size = _number(wish.page_size, "X-Nuage-PageSize", 1)
    page = None if wish.page is None else _number(wish.page, "X-Nuage-Page", 0)
    return page, min(size, settings.page_max)


def _number(text, name, least):
    if not _NUMBER.match(text):  # int() alone takes 1_0 and digits of other scripts
        raise malformed(f"{name} must be a number, not {text!r}.")
    number = int(text)
    if number < least:
        raise malformed(f"{name} must be at least {least}, not {number}.")
    return number
