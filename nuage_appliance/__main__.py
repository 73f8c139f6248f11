"""Entry point: blocks signals and patches the standard library before any other import."""

import signal

from nuage_appliance import LATER_SIGNALS

signal.pthread_sigmask(signal.SIG_BLOCK, LATER_SIGNALS)

from gevent import monkey  # noqa: E402  (signals must be blocked before this slow import)

monkey.patch_all()

import sys  # noqa: E402  (the patch must come first)


def main() -> int:
    """Run the command line and return the process's exit status."""
    from nuage_appliance.cli import run

    try:
        return run(sys.argv[1:])
    except KeyboardInterrupt:  # apart from the appliance itself, which ends in order
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
