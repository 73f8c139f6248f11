"""A process of its own that asks the appliance for its capabilities all the time, and tells how
long each answer took.

`python -m bench.probe SOCKET` waits for the socket at most 30 s, says that it is ready, and runs
until its standard input ends; then it prints [[started, milliseconds], …] as JSON. The clock is the
monotonic one, which all processes share.
"""

import json
import select
import sys
import time

from bench.wire import Caller

WAIT_S = 30


def connect(path):
    """A caller, as soon as somebody listens there."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return Caller(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def main():
    """Ask until standard input ends."""
    caller = connect(sys.argv[1])
    samples = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        started_s = time.monotonic()
        caller.call("NetworkDriver.GetCapabilities", {})
        samples.append((started_s, (time.monotonic() - started_s) * 1000))
    json.dump(samples, sys.stdout)


if __name__ == "__main__":
    main()
