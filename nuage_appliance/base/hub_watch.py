"""Watches the gevent hub: a gap in which no greenlet could run is logged with the stack of what held it.

Owns one native thread and one greenlet. Also counts the time in which this process really ran, because what must be seen
wrong for a minute must not count a minute in which nobody looked (a suspended process or machine).
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable

import gevent
from gevent import monkey

_log = logging.getLogger(__name__)

_start_native_thread = monkey.get_original("_thread", "start_new_thread")
_native_sleep = monkey.get_original("time", "sleep")
_main_thread = monkey.get_original("_thread", "get_ident")

BEAT_S = 0.05
GAP_S = 0.25
_MOST_AWAKE_S = 1.0  # what one beat may add to the time awake, however late it comes


class HubWatch:
    """The watch. Make it in the main thread; awake_s may be called before serve runs and never goes backwards."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_s = clock()
        self._cpu_s = time.process_time()
        self._awake_s = 0.0
        self._main = _main_thread()
        self._stack: tuple[float, str] | None = None
        self.longest_pause_s = 0.0

    def awake_s(self) -> float:
        """Seconds for which this process ran, on no particular zero. Does not switch greenlets."""
        return self._awake_s + min(self._clock() - self._beat_s, _MOST_AWAKE_S)

    def serve(self) -> None:
        """The greenlet that beats; never returns."""
        self._beat_s = self._clock()
        _start_native_thread(self._look, ())
        while True:
            gevent.sleep(BEAT_S)
            self._beat()

    def _beat(self) -> None:
        now_s, cpu_s = self._clock(), time.process_time()
        since_s, used_s = now_s - self._beat_s, cpu_s - self._cpu_s
        last_s, stack = self._beat_s, self._stack
        self._beat_s, self._cpu_s = now_s, cpu_s
        self._awake_s += min(since_s, _MOST_AWAKE_S)
        pause_s = since_s - BEAT_S
        if pause_s <= GAP_S:
            self.longest_pause_s = max(self.longest_pause_s, pause_s)
            return
        if stack is not None and stack[0] == last_s:
            where = stack[1]
        elif used_s > since_s / 2:
            where = "in one long call of native code"
        else:
            # Neither did the native thread run, nor was a processor used: nothing of ours held the hub.
            _log.warning(
                "this process did not run for %.1f s: it was suspended, or the machine is overloaded",
                pause_s,
            )
            return
        self.longest_pause_s = max(self.longest_pause_s, pause_s)
        _log.warning("the event loop was held for %.0f ms: %s", pause_s * 1000, where)

    def _look(self) -> None:
        """In the native thread, which may not log: keep the stack of what the main thread does when a beat is late."""
        seen_s = self._clock()
        while True:
            _native_sleep(BEAT_S)
            now_s, beat_s = self._clock(), self._beat_s
            ran = now_s - seen_s < 4 * BEAT_S  # else this thread did not run either
            seen_s = now_s
            if (
                ran
                and now_s - beat_s - BEAT_S > GAP_S
                and (self._stack is None or self._stack[0] != beat_s)
            ):
                frame = sys._current_frames().get(self._main)
                self._stack = (
                    beat_s,
                    " | ".join(
                        line.strip().replace("\n", " ")
                        for line in traceback.format_stack(frame)[-12:]
                    ),
                )
