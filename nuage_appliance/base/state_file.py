"""A small JSON map on disk that outlives the process: written beside, then renamed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping

_log = logging.getLogger(__name__)

_LARGEST_BYTES = 1 << 20


class StateFile:
    """Texts by texts. A file that cannot be written is said in the log and is no reason to fail."""

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> dict[str, str]:
        """What was kept; empty when there is nothing, or nothing that can be read."""
        try:
            with open(self._path, encoding="utf-8") as stream:
                data = json.loads(stream.read(_LARGEST_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return (
            {key: value for key, value in data.items() if isinstance(value, str)}
            if isinstance(data, dict)
            else {}
        )

    def save(self, values: Mapping[str, str]) -> None:
        """Keep this instead; without values there is no file."""
        try:
            if not values:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                return
            directory = os.path.dirname(self._path)
            os.makedirs(directory, mode=0o750, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=directory, delete=False, encoding="utf-8"
            ) as stream:
                json.dump(dict(values), stream)
            os.replace(stream.name, self._path)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error.strerror)
