"""Owns the regular expressions of clients: RE2, because it takes time in proportion to the text, so that none can hold the process."""

import re2

from .errors import malformed

_MAX_LENGTH = 500
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20  # bytes, for one pattern


class Pattern:
    """A regular expression that whole texts are held against."""

    def __init__(self, text):
        """Read a pattern; raises ApiError 400 that says what is wrong with it."""
        if len(text) > _MAX_LENGTH:
            raise self._refused(text, f"it has more than {_MAX_LENGTH} characters")
        try:
            self._compiled = re2.compile(text, _OPTIONS)
        except re2.error as problem:
            (said,) = problem.args
            raise self._refused(
                text, said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
            ) from None

    def fullmatch(self, text):
        """Return whether the whole text matches."""
        return self._compiled.fullmatch(text) is not None

    @staticmethod
    def _refused(text, problem):
        return malformed(f"MATCHES wants a regular expression, not {text[:80]!r}: {problem[:200]}.")
