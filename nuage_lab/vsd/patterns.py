"""Owns the regular expressions of clients.

They run in RE2, which takes time in proportion to the text, so that none can hold the process.
"""

import re2

from .errors import ApiError, malformed

_MAX_LENGTH = 500
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20  # bytes, for one pattern


class Pattern:
    """A regular expression that is matched against whole texts."""

    def __init__(self, text: str) -> None:
        """Compile a pattern; raises ApiError 400 that explains what is wrong with it."""
        if len(text) > _MAX_LENGTH:
            raise self._refused(text, f"it has more than {_MAX_LENGTH} characters")
        try:
            self._compiled = re2.compile(text, _OPTIONS)
        except re2.error as problem:
            (reason,) = problem.args
            if isinstance(reason, bytes):
                reason = reason.decode("utf-8", "replace")
            raise self._refused(text, str(reason)) from None

    def fullmatch(self, text: str) -> bool:
        """Return whether the whole text matches."""
        found: object = self._compiled.fullmatch(text)
        return found is not None

    @staticmethod
    def _refused(text: str, problem: str) -> ApiError:
        return malformed(f"MATCHES wants a regular expression, not {text[:80]!r}: {problem[:200]}.")
