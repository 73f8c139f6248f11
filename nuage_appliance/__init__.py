"""The nuage-libnetwork appliance: Docker's networks and addresses on a Nuage VSP."""

import signal

__version__ = "6.0.0"
# They ask for what a start that is under way can do later: they wait instead of ending the process.
LATER_SIGNALS = frozenset((signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))
