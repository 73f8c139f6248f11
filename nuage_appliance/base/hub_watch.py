"""Watches the gevent hub: logs each gap in which no greenlet could run, with the stack behind it.

Owns one native thread and one greenlet. Also counts the time in which this process really ran: what
must be seen wrong for a minute must not count a minute in which nobody looked, because the process
or the machine was suspended.
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
_native_thread_id = monkey.get_original("_thread", "get_ident")

BEAT_S = 0.05
GAP_S = 0.25
_MOST_AWAKE_S = 1.0  # what one beat may add to the time awake, however late it comes
_FRAMES = 12


class HubWatch:
    """The watch. Make it in the main thread.

    awake_s() may be called before serve() runs and never goes backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_s = clock()
        self._cpu_s = time.process_time()
        self._awake_s = 0.0
        self._main = _native_thread_id()
        self._stack: tuple[float, str] | None = None
        self.longest_pause_s = 0.0

    def awake_s(self) -> float:
        """Seconds for which this process ran, from any starting point. Switches no greenlets."""
        return self._awake_s + min(self._clock() - self._beat_s, _MOST_AWAKE_S)

    def serve(self) -> None:
        """The greenlet that beats; never returns."""
        self._beat_s = self._clock()
        _start_native_thread(self._look, ())
        while True:
            gevent.sleep(BEAT_S)
            self._beat()

    def _beat(self) -> None:
        now_s = self._clock()
        cpu_s = time.process_time()
        since_s = now_s - self._beat_s
        used_s = cpu_s - self._cpu_s
        last_s = self._beat_s
        stack = self._stack
        self._beat_s = now_s
        self._cpu_s = cpu_s
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
            # The native thread did not run either, and no processor was used: the whole process
            # stood still, and nothing of ours held the hub.
            _log.warning(
                "this process did not run for %.1f s: "
                "it was suspended, or the machine is overloaded",
                pause_s,
            )
            return
        self.longest_pause_s = max(self.longest_pause_s, pause_s)
        _log.warning("the event loop was held for %.0f ms: %s", pause_s * 1000, where)

    def _look(self) -> None:
        """In the native thread, which may not log: keep the main thread's stack of a late beat."""
        seen_s = self._clock()
        while True:
            _native_sleep(BEAT_S)
            now_s = self._clock()
            beat_s = self._beat_s
            this_thread_ran = now_s - seen_s < 4 * BEAT_S
            seen_s = now_s
            is_late = now_s - beat_s - BEAT_S > GAP_S
            is_known = self._stack is not None and self._stack[0] == beat_s
            if this_thread_ran and is_late and not is_known:
                frame = sys._current_frames().get(self._main)
                lines = traceback.format_stack(frame)[-_FRAMES:]
                self._stack = (
                    beat_s,
                    " | ".join(line.strip().replace("\n", " ") for line in lines),
                )
