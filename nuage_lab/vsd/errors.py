"""Owns the errors that the simulated VSD reports, and the shape of their bodies (vsd §6.2, §6.3).

Never decides when an error is due.
"""

from typing import Any


class ApiError(Exception):
    """A refusal that becomes an HTTP reply with a JSON body."""

    def __init__(
        self,
        status: int,
        title: str,
        description: str,
        property_name: str = "",
        code: int | None = None,
        top_level: bool = False,
    ) -> None:
        super().__init__(f"{status} {title}: {description}")
        self.status = status
        self.title = title
        self.description = description
        self.property_name = property_name
        self.code = code
        self._top_level = top_level

    def body(self) -> dict[str, Any]:
        """Return the JSON body as a dict."""
        entry = {"title": self.title, "description": self.description}
        body: dict[str, Any] = {
            "errors": [{"property": self.property_name, "descriptions": [entry]}]
        }
        if self._top_level:
            body = {**entry, **body}
        if self.code is not None:
            body["internalErrorCode"] = self.code
        return body


class Unauthorized(Exception):
    """Credentials were missing or refused; answered by an HTML page, never by JSON (vsd §2.4)."""


class Confirmation(Exception):
    """The operation requires `responseChoice=1`; answered by 300 (vsd §6.1)."""

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = question

    def body(self) -> dict[str, Any]:
        """Return the JSON body as a dict."""
        entry = {"title": "Confirmation required", "description": self.question}
        return {
            "choices": [{"id": 1, "label": "OK"}, {"id": 0, "label": "Cancel"}],
            "errors": [{"property": "", "descriptions": [entry]}],
        }


class UnknownPath(Exception):
    """No resource lives at this path; answered by an HTML 404."""


def not_found(rest_name: str, object_id: str) -> ApiError:
    """Build the 404 for an object that does not exist."""
    return ApiError(
        404,
        f"{rest_name} not found",
        f"Cannot find {rest_name} with ID {object_id}",
        top_level=True,
    )


def conflict(
    title: str, description: str, property_name: str = "", code: int | None = None
) -> ApiError:
    """Build a 409."""
    return ApiError(409, title, description, property_name, code)


def invalid(property_name: str, description: str, code: int | None = None) -> ApiError:
    """Build the 409 for an attribute whose value is refused."""
    return ApiError(409, "Invalid input", description, property_name, code)


def malformed(description: str, property_name: str = "") -> ApiError:
    """Build the 400 for a request that cannot be understood."""
    return ApiError(400, "Malformed request", description, property_name)


def not_allowed(method: str, path: str) -> ApiError:
    """Build the 405 for a verb that the resource does not have."""
    return ApiError(405, "Method not allowed", f"{method} is not supported on {path}")


def duplicate(rest_name: str, property_name: str, value: object, code: int = 2510) -> ApiError:
    """Build the 409 for a value that must be unique and is taken."""
    title = "Cannot create duplicate entity." if code == 9501 else "Duplicate object"
    return ApiError(
        409,
        title,
        f"Another {rest_name} with the same {property_name} = {value} exists.",
        property_name,
        code,
    )
