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

_LARGEST_BYTES = 64 << 20


class StateFile:
    """Maps texts to texts. When the file cannot be written, that is logged and nothing fails."""

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> dict[str, str]:
        """Return what was saved; an empty map when there is no file, or none that can be read.

        A damaged file is logged and set aside under another name, `….damaged`: the next save would
        replace it.
        """
        try:
            with open(self._path, "rb") as stream:
                raw = stream.read(_LARGEST_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            _log.warning("%s cannot be read: %s", self._path, error.strerror)
            return {}
        try:
            if len(raw) > _LARGEST_BYTES:
                raise ValueError(f"it is larger than {_LARGEST_BYTES >> 20} MiB")
            data = json.loads(raw)
            if not isinstance(data, dict):
                raise ValueError("it does not hold a JSON object")
        except (ValueError, RecursionError) as error:
            self._set_aside(error)
            return {}
        return {key: value for key, value in data.items() if isinstance(value, str)}

    def _set_aside(self, error: Exception) -> None:
        aside = self._path + ".damaged"
        _log.error("%s is damaged (%s); it is set aside as %s", self._path, error, aside)
        try:
            files.rename(self._path, aside)
        except OSError as problem:
            _log.warning("%s cannot be renamed: %s", self._path, problem.strerror)

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
