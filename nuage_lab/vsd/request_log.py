"""Owns the memory of served requests: a ring, counters, and a file of JSON lines if one is named.

Never sees a body, nor a header except the filter, so that no credentials can get into it. It hides
texts that look like a password or a key.
"""

import itertools
import json
import re
from collections import Counter, deque

_SECRET = re.compile("passw|apikey|authori[sz]ation|xrest", re.IGNORECASE)


class RequestLog:
    """The last 10,000 requests."""

    def __init__(self, path=None, size=10000):
        self._ring = deque(maxlen=size)
        self._counters = Counter()
        self._file = None
        if path:
            self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (`close` does)
        self.seq = 0

    def note(self, entry, pattern):
        """Remember one request; `pattern` is its method and path with the IDs replaced."""
        self.seq += 1
        entry = {"seq": self.seq, **entry}
        hidden = [
            name
            for name in ("path", "query", "filter", "client")
            if _SECRET.search(entry.get(name) or "")
        ]
        entry.update(dict.fromkeys(hidden, "(not shown)"))
        self._ring.append(entry)
        self._counters[f"{entry['method']} (not shown)" if "path" in hidden else pattern] += 1
        if self._file is not None:
            self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")

    def since(self, seq):
        """Return the requests after a number, oldest first."""
        if not self._ring:
            return []
        return list(itertools.islice(self._ring, max(0, seq + 1 - self._ring[0]["seq"]), None))

    def counters(self):
        """Return how often each pattern was asked for."""
        return dict(sorted(self._counters.items()))

    def clear(self):
        """Set the counters to zero and forget the requests."""
        self._ring.clear()
        self._counters.clear()

    def close(self):
        """Close the file."""
        if self._file is not None:
            self._file.close()
