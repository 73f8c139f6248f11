"""The log: one line format, rotation by size, request ids, secrets blanked.

Owns the root logger of this process. Must never write a secret: every value that `keep_secret` got
is blanked in every line, also inside stack traces.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import logging.handlers
import os
import sys
import threading
import time
from collections.abc import Iterator

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_LEVEL_WORDS = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARNING",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "FATAL",
}
_OLD_FILES = 5
_SHORTEST_SECRET = 4

_secrets: set[str] = set()
_current = threading.local()
_numbers = itertools.count(1)
_program = os.path.basename(sys.argv[0]) or "nuage-libnetwork"


def keep_secret(*values: str) -> None:
    """Blank these values in every line from now on.

    Values of less than four characters are left alone: they occur in ordinary words.
    """
    _secrets.update(value for value in values if len(value) >= _SHORTEST_SECRET)


def forget_secret(*values: str) -> None:
    """Stop blanking values that are no longer valid, so that the set stays small."""
    _secrets.difference_update(values)


@contextlib.contextmanager
def request(request_id: str) -> Iterator[None]:
    """Mark every line that this greenlet writes inside the block with `request_id`."""
    before = getattr(_current, "request_id", "")
    _current.request_id = request_id
    try:
        yield
    finally:
        _current.request_id = before


class _Lines(logging.Formatter):
    """`|time|LEVEL|number|program|message`, as the predecessor wrote it; controls are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        text = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            text += " <- " + record.exc_text
        for secret in _secrets:
            text = text.replace(secret, "***")
        if not text.isprintable():
            text = "".join(c if c.isprintable() else _escape(c) for c in text)
        request_id = getattr(_current, "request_id", "")
        mark = f"[{request_id}] " if request_id else ""
        level = _LEVEL_WORDS.get(record.levelno, record.levelname)
        # Both handlers format the same record: its number is drawn once.
        number: int | None = getattr(record, "running_number", None)
        if number is None:
            number = next(_numbers)
            record.running_number = number
        return (
            f"|{when}.{int(record.msecs):03d} +0000 UTC|{level}|{number:04d}|{_program}|"
            f"{mark}{text}"
        )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class _File(logging.handlers.RotatingFileHandler):
    """A log file of mode 0640; on a full disk it loses lines, and nothing else happens."""

    def _open(self) -> io.TextIOWrapper:
        # O_NONBLOCK: when the path is a pipe that nobody reads, the process does not wait for it.
        descriptor = os.open(
            self.baseFilename,
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK,
            0o640,
        )
        return open(descriptor, "a", encoding=self.encoding, errors="backslashreplace")

    def is_at(self, path: str) -> bool:
        """True when this is the file that a path leads to now."""
        if self.baseFilename != os.path.abspath(path) or self.stream is None:
            return False
        try:
            return os.path.samestat(os.stat(path), os.fstat(self.stream.fileno()))
        except OSError:
            return False

    def handleError(self, record: logging.LogRecord) -> None:
        """Lose the line; standard error still has it."""


_file: _File | None = None


def start(path: str | None, level: str, max_mb: int) -> str | None:
    """Send the log to standard error and, if `path` is not None, to a file rotated at `max_mb` MiB.

    May be called again to apply a new configuration; a file that was renamed or deleted meanwhile,
    as logrotate does, is then made anew. Returns None, or a sentence that says why the
    file is not written.
    """
    global _file
    root = logging.getLogger()
    root.setLevel(LEVELS[level])
    for noisy in ("urllib3", "requests", "consul"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, LEVELS[level]))
    if not any(
        isinstance(h, logging.StreamHandler) and h.stream is sys.stderr for h in root.handlers
    ):
        console = logging.StreamHandler(sys.stderr)
        console.setFormatter(_Lines())
        root.addHandler(console)
    logging.raiseExceptions = False
    if _file is not None and path is not None and _file.is_at(path):
        _file.maxBytes = max_mb * 1024 * 1024
        return None
    if _file is not None:
        root.removeHandler(_file)
        _file.close()
        _file = None
    if path is None:
        return None
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o750, exist_ok=True)
        handler = _File(
            path, maxBytes=max_mb * 1024 * 1024, backupCount=_OLD_FILES, encoding="utf-8"
        )
    except OSError as error:
        return (
            f"the log file {path} cannot be written: {error.strerror}; "
            "the log goes to standard error only"
        )
    handler.setFormatter(_Lines())
    root.addHandler(handler)
    _file = handler
    return None
