"""Owns the format and safety of a state file: JSON lines, a snapshot, then one line a change.

A line is `["CRC32", RECORD]`; the checksum is eight hexadecimal digits over the text of the record.
The first record names format and version, and a record `complete` ends the snapshot.

Every line goes to the kernel at once, so that a killed process loses nothing. A snapshot is on the
disk before it replaces the old file. Other lines reach the disk when the kernel likes, or each at
once with `is_synced`. Never knows what a record means.
"""

import contextlib
import fcntl
import json
import os
import zlib

FORMAT, VERSION = "nuage_lab.vsd state", 1
_HEAD = {"format": FORMAT, "version": VERSION}
_END = {"snapshot": "complete"}
_OVERHEAD = len('["01234567",')


class StateError(Exception):
    """The file cannot be used; the text explains why and what would help."""


class StateFile:
    """One file, held by one process.

    Its methods raise OSError when a write failed; the file then still has what it had before.
    """

    def __init__(self, path, is_synced=False):
        self.path = os.path.realpath(path)
        self._is_synced = is_synced
        self._descriptor = None
        self._size = self._snapshot_size = 0
        self._successor = None

    def open(self):
        """Open and lock the file; returns False when there is none. Raises StateError."""
        is_special = os.path.exists(self.path) and not os.path.isfile(self.path)
        if is_special and not os.path.isdir(self.path):
            raise StateError(f"{self.path} is not a regular file; name another one")
        try:
            self._descriptor = _open_locked(self.path)
        except FileNotFoundError:
            return False
        except OSError as problem:
            raise StateError(
                f"{self.path} cannot be opened for writing: {problem.strerror}"
            ) from problem
        return True

    def records(self):
        """Yield the records after the head; read all of them before the first `append`.

        Raises StateError. Cuts off an incomplete last line: its process died before it answered the
        request, so no client relies on it.
        """
        damaged = number = 0
        foreign = StateError(f"{self.path} is not a state file of this simulator; name another one")
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                record = _record(line)
                is_head = isinstance(record, dict) and record.get("format") == FORMAT
                if number == 1 and not is_head:
                    raise foreign
                if damaged:
                    raise StateError(
                        f"{self.path}: line {damaged} is damaged and lines follow it; {_HELP}"
                    )
                if record is None:
                    damaged = number
                    continue
                if number == 1 and record.get("version") != VERSION:
                    known = f"this simulator knows version {VERSION}; use the one that wrote it"
                    raise StateError(
                        f"{self.path} is of version {record.get('version')}, and {known}"
                    )
                self._size += len(line)
                if record == _END:
                    self._snapshot_size = self._size
                elif number > 1:
                    yield record
        if not self._size:
            raise foreign
        if not self._snapshot_size:
            last = damaged - 1 if damaged else number
            raise StateError(
                f"{self.path} is cut off after line {last}, before the end of its snapshot; {_HELP}"
            )
        if damaged:
            os.ftruncate(self._descriptor, self._size)

    @property
    def is_long(self):
        """True when the changes take more space than the snapshot, so that a new one pays off."""
        return self._size - self._snapshot_size > max(self._snapshot_size, 1 << 20)

    @property
    def size(self):
        """The size of the file in bytes."""
        return self._size

    def append(self, record):
        """Write one record after the others, completely or not at all."""
        line = _line(record)
        try:
            _write(self._descriptor, line)
            if self._is_synced:
                os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)
        if self._successor is not None:
            self._successor.later.append(line)

    @contextlib.contextmanager
    def successor(self):
        """Yield the file that replaces this one when the block ends.

        An exception leaves everything as it was. What is appended meanwhile goes to both files.
        Only one successor at a time.
        """
        new = self._successor = Successor(self.path)
        try:
            new.write([_HEAD])
            yield new
            new.finish()
            os.replace(new.path, self.path)
        except BaseException:
            os.close(new.descriptor)
            os.unlink(new.path)
            raise
        finally:
            self._successor = None
        self.close()
        self._descriptor = new.descriptor
        self._size = new.size
        self._snapshot_size = new.snapshot_size
        _sync_directory(self.path)

    def close(self):
        """Close the file; nothing has to be written for that."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Successor:
    """A state file that is being written."""

    def __init__(self, path):
        self.path = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.descriptor = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        self.later = []
        self.size = self.snapshot_size = 0

    def write(self, records):
        """Write records of the snapshot."""
        self._write(b"".join(map(_line, records)))

    def sync(self):
        """Wait until the disk has what was written; may run in a thread of its own."""
        os.fdatasync(self.descriptor)

    def finish(self):
        """End the snapshot, and add what was appended to the old file meanwhile."""
        self._write(_line(_END))
        self.snapshot_size = self.size
        self._write(b"".join(self.later))
        self.sync()

    def _write(self, data):
        _write(self.descriptor, data)
        self.size += len(data)


_HELP = "put a copy of it in its place, or delete it to start from the seed"


def _line(record):
    text = json.dumps(record, separators=(",", ":")).encode()
    return b'["%08x",%b]\n' % (zlib.crc32(text), text)


def _record(line):
    """Return the record of a line, or None for a damaged line."""
    text = line[_OVERHEAD:-2]
    if line[:_OVERHEAD] != b'["%08x",' % zlib.crc32(text) or line[-2:] != b"]\n":
        return None
    return json.loads(text)


def _open_locked(path):
    """Open a file that another process may replace meanwhile, and lock it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            os.close(descriptor)
            raise StateError(
                f"{path} is in use by another simulator; end that one, or name another file"
            ) from problem
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
        os.close(descriptor)


def _write(descriptor, data):
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(path):
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
