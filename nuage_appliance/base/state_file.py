"""A small JSON map on disk that outlives the process.

Owns its file. Must never fail its caller: what cannot be kept is logged.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping

from nuage_appliance.base import files

_log = logging.getLogger(__name__)

_LARGEST_BYTES = 1 << 20


class StateFile:
    """Maps texts to texts. When the file cannot be written, that is logged and nothing fails."""

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> dict[str, str]:
        """Return what was saved; an empty map when there is no file, or none that can be read."""
        try:
            with open(self._path, encoding="utf-8") as stream:
                data = json.loads(stream.read(_LARGEST_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(data, dict):
            return {}
        return {key: value for key, value in data.items() if isinstance(value, str)}

    def save(self, values: Mapping[str, str]) -> None:
        """Replace what was saved; without values the file is removed."""
        try:
            if not values:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
                return
            files.replace(self._path, json.dumps(dict(values)))
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error.strerror)
