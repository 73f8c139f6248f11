"""Decisions and the ownership of state; never sees a socket.

The threads in here are greenlets: after `__main__` has patched the standard library,
`threading.Event`, `RLock` and `time.sleep` are gevent's, so only a call that may wait lets anybody
else run, and what its docstring calls "Switches greenlets" is where everything that was read before
may have changed.
"""
