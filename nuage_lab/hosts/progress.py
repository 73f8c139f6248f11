"""What long steps are doing, for the person who waits: no command of the lab is silent for more
than five seconds.

A step says what it does with doing(); Ticker prints that, and how long it takes, when nothing else
was printed for a while. Both only write text: nothing depends on them.
"""

import contextlib
import threading
import time

PAUSE_S = 4.0
# what is being done now -> a function that returns how far it is; in the order of their begin
_steps = {}
_tickers = []  # the one that runs, if any
_lock = threading.Lock()


@contextlib.contextmanager
def doing(what, how_far=lambda: ""):
    """Name what is done inside of this block. how_far returns a few words, as the last line of a
    program's output.
    """
    with _lock:
        _steps[what] = how_far
    try:
        yield
    finally:
        with _lock:
            _steps.pop(what, None)


def announce(text):
    """Print a line at once, where a Ticker runs; nothing happens where nobody waits."""
    for ticker in list(_tickers):
        ticker.say(text)


def now():
    """Return the steps that are under way as one line; empty when there are none."""
    with _lock:
        steps = list(_steps.items())
    return ", ".join(f"{what}{_words(how_far)}" for what, how_far in steps)


def _words(how_far):
    text = how_far()
    return f": {text}" if text else ""


class Ticker:
    """Prints now() with write when say has printed nothing for pause_s seconds.

    A context manager.
    """

    def __init__(self, write, pause_s=PAUSE_S):
        self._write = write
        self._pause_s = pause_s
        self._start = self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def say(self, text):
        """Write a line, and start the pause anew."""
        self._last = time.monotonic()
        self._write(text)

    def _run(self):
        while not self._ended.wait(self._due_in_s()):
            if self._due_in_s() > 0:
                continue  # something was printed meanwhile
            self._last = time.monotonic()
            if text := now():
                self._write(f"{time.monotonic() - self._start:6.0f} s  {text}")

    def _due_in_s(self):
        return max(0.0, self._last + self._pause_s - time.monotonic())

    def __enter__(self):
        _tickers.append(self)
        self._thread.start()
        return self

    def __exit__(self, *_):
        _tickers.remove(self)
        self._ended.set()
        self._thread.join()
