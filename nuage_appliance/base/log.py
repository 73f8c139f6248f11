"""The log: one line format, rotation by size, request ids, secrets blanked.

Owns the root logger of this process. Must never write a secret: whatever `keep_secret` was told is blanked in every
line, also inside stack traces.
"""

from __future__ import annotations

import contextlib
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
_programme = os.path.basename(sys.argv[0]) or "nuage-libnetwork"


def keep_secret(*values: str) -> None:
    """Blank these values in every line from now on. Values under four characters cannot be told from text."""
    _secrets.update(value for value in values if len(value) >= _SHORTEST_SECRET)


def forget_secret(*values: str) -> None:
    """Stop blanking values that no longer open anything, so that the set stays small."""
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
    """`|time|LEVEL|number|program|message`, as the predecessor wrote it; control characters are escaped."""

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
            text = "".join(
                c
                if c.isprintable()
                else c.encode("unicode_escape", "surrogatepass").decode("ascii")
                for c in text
            )
        request_id = getattr(_current, "request_id", "")
        mark = f"[{request_id}] " if request_id else ""
        level = _LEVEL_WORDS.get(record.levelno, record.levelname)
        if not hasattr(record, "running_number"):
            record.running_number = next(_numbers)
        return (
            f"|{when}.{int(record.msecs):03d} +0000 UTC|{level}|{record.running_number:04d}|{_programme}|"
            f"{mark}{text}"
        )


class _File(logging.handlers.RotatingFileHandler):
    """A log file of mode 0640 that survives a full disk: a line that cannot be written is lost, nothing else."""

    def _open(self):
        stream = open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors="backslashreplace",
            opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK, 0o640),
        )  # a pipe that nobody reads is not waited for
        return stream

    def handleError(self, record: logging.LogRecord) -> None:
        """Lose the line; the standard error still has it."""


_file: _File | None = None


def start(path: str | None, level: str, max_mb: int) -> str | None:
    """Send the log to standard error and, if `path` is not None, to a file rotated at `max_mb` MiB.

    May be called again to apply a new configuration. Returns None, or a sentence that says why the file is not written.
    """
    global _file
    root = logging.getLogger()
    root.setLevel(LEVELS[level])
    for noisy in ("urllib3", "requests", "geventwebsocket", "consul"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, LEVELS[level]))
    if not any(
        isinstance(h, logging.StreamHandler) and h.stream is sys.stderr for h in root.handlers
    ):
        console = logging.StreamHandler(sys.stderr)
        console.setFormatter(_Lines())
        root.addHandler(console)
    logging.raiseExceptions = False
    if _file is not None and _file.baseFilename == (path and os.path.abspath(path)):
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
        return f"the log file {path} cannot be written: {error.strerror}; the log goes to standard error only"
    handler.setFormatter(_Lines())
    root.addHandler(handler)
    _file = handler
    return None
