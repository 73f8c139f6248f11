"""The nuage-libnetwork appliance: Docker's networks and addresses on a Nuage VSP."""

__version__ = "6.0.0"
