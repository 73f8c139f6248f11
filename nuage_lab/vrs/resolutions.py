"""What is known of each (container UUID, MAC) in the rows of the switch.

No I/O; time is an argument.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str]  # container UUID and MAC
Answer = dict[str, Any]  # of the VSD to /vsc/resolve

RETRY_ABSENT_S = 5.0
RETRY_UNKNOWN_S = 1.0


@dataclass
class Resolution:
    """The state of one key.

    `answer` is the VSD's last good one. `due` is when to ask the VSD (None: not at all, or it is
    being asked). `is_outdated` means that something changed while it was being asked.
    """

    due: float | None
    answer: Answer | None = None
    is_absent: bool = False
    is_reported: bool = False
    is_asked: bool = False
    is_outdated: bool = False


class Resolutions:
    """The `Resolution` of each key, in `table`."""

    def __init__(self) -> None:
        self.table: dict[Key, Resolution] = {}

    def follow(self, keys: Collection[Key], first_due: float) -> list[tuple[Key, Resolution]]:
        """Track exactly these keys; new ones are due at `first_due`.

        Returns [(key, Resolution)] of the dropped ones that were reported as running.
        """
        dropped = {key: self.table.pop(key) for key in list(self.table) if key not in keys}
        for key in keys:
            if key not in self.table:
                self.table[key] = Resolution(due=first_due)
        return [(key, entry) for key, entry in dropped.items() if entry.is_reported]

    def take_due(self, now: float) -> list[Key]:
        """Return the keys to ask the VSD about now, and mark them as being asked."""
        due = [key for key, entry in self.table.items() if _is_due(entry, now)]
        for key in due:
            self.table[key].due = None
            self.table[key].is_asked = True
        return due

    def next_due(self) -> float | None:
        """Return the time of the next question, or None."""
        times = [entry.due for entry in self.table.values() if entry.due is not None]
        return min(times, default=None)

    def postpone(self, key: Key) -> None:
        """Drop the question about a key until `ask_again`."""
        self.table[key].is_asked = False

    def answer(self, key: Key, answer: Answer | None, now: float) -> None:
        """Take the VSD's answer; None, when the VSD could not be asked, keeps what was known."""
        entry = self.table.get(key)
        if entry is None:
            return
        entry.is_asked = False
        if answer is None:
            entry.due = now + RETRY_UNKNOWN_S
        elif answer.get("found"):
            entry.answer = answer
            entry.is_absent = False
            entry.due = None
        else:
            entry.answer = None
            entry.is_absent = True
            entry.is_reported = False
            entry.due = now + RETRY_ABSENT_S
        if entry.is_outdated:
            entry.is_outdated = False
            entry.due = now

    def ask_again(
        self, now: float, concerns: Callable[[Key, Resolution], object] = lambda key, entry: True
    ) -> None:
        """Make every key due now for which `concerns(key, resolution)` is true.

        If its answer is on the way, another question follows.
        """
        for key, entry in self.table.items():
            if concerns(key, entry):
                if entry.is_asked:
                    entry.is_outdated = True
                else:
                    entry.due = now


def _is_due(entry: Resolution, now: float) -> bool:
    return entry.due is not None and entry.due <= now
