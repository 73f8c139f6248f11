"""Replaces a small file on disk as a whole: a reader sees the old text or the new one.

Owns nothing. Every file that this product writes and reads again goes through here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile

_DIRECTORY_MODE = 0o750
_NEW_FILE_MODE = 0o600


def replace(path: str, text: str, mode: int | None = None) -> None:
    """Write `text` (UTF-8) to `path` in one step, making the file's directory when it is missing.

    `mode` holds the permission bits; with None an existing file keeps its own, a new one gets 0600.
    Raises OSError; then nothing is left beside the file, which has its old text unless only the
    last step failed: to make the new name durable. Does not switch greenlets; blocks while the
    disk writes.
    """
    # The text goes to a file beside the target, is forced to the disk, and only then takes the
    # target's name. Without the first fsync a power failure can leave an empty file under the
    # target's name; without the second one (of the directory) it can bring the old file back.
    directory = os.path.dirname(path) or "."
    os.makedirs(directory, mode=_DIRECTORY_MODE, exist_ok=True)
    if mode is None:
        mode = _mode_of(path)
    descriptor, beside = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _sync_directory(directory)


def rename(path: str, new_path: str) -> None:
    """Give a file another name in its directory, replacing what has that name. Raises OSError."""
    os.replace(path, new_path)
    _sync_directory(os.path.dirname(path) or ".")


def _mode_of(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return _NEW_FILE_MODE


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot force a directory to the disk
            raise
    finally:
        os.close(descriptor)
