"""What is known of each (container uuid, MAC) that the switch's rows ask about. No I/O; time is an argument."""

from dataclasses import dataclass

RETRY_ABSENT_S = 5.0
RETRY_UNKNOWN_S = 1.0


@dataclass
class Resolution:
    """answer is VSD's last good one. due is when VSD is to be asked (None: not at all, or being asked)."""

    due: float
    answer: dict = None
    is_absent: bool = False
    is_reported: bool = False
    is_asked: bool = False
    is_outdated: bool = False


class Resolutions:
    def __init__(self):
        self.table = {}

    def follow(self, keys, first_due):
        """Track exactly these keys; return the dropped ones that were reported as running."""
        dropped = {key: self.table.pop(key) for key in list(self.table) if key not in keys}
        for key in keys:
            if key not in self.table:
                self.table[key] = Resolution(due=first_due)
        return [(key, entry) for key, entry in dropped.items() if entry.is_reported]

    def take_due(self, now):
        """Return the keys to ask VSD about now, and mark them as asked."""
        due = [
            key for key, entry in self.table.items() if entry.due is not None and entry.due <= now
        ]
        for key in due:
            self.table[key].due, self.table[key].is_asked = None, True
        return due

    def next_due(self):
        return min(
            (entry.due for entry in self.table.values() if entry.due is not None), default=None
        )

    def postpone(self, key):
        """Never ask about this key until it is asked for again."""
        self.table[key].is_asked = False

    def answer(self, key, answer, now):
        """Take VSD's answer; None when it could not be asked, which keeps what was known."""
        entry = self.table.get(key)
        if entry is None:
            return
        entry.is_asked = False
        if answer is None:
            entry.due = now + RETRY_UNKNOWN_S
        elif answer.get("found"):
            entry.answer, entry.is_absent, entry.due = answer, False, None
        else:
            entry.answer, entry.is_absent, entry.is_reported = None, True, False
            entry.due = now + RETRY_ABSENT_S
        if entry.is_outdated:
            entry.due, entry.is_outdated = now, False

    def ask_again(self, now, concerns=lambda key, entry: True):
        """Make every key that concerns is true of due now; an answer on its way is followed by another question."""
        for key, entry in self.table.items():
            if concerns(key, entry):
                if entry.is_asked:
                    entry.is_outdated = True
                else:
                    entry.due = now
