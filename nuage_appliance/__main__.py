"""Entry point: patches the standard library for gevent before anything else is imported."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402  (the patch must come first)


def main() -> int:
    """Run the command line and return the process's exit status."""
    from nuage_appliance.cli import run
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
