"""Sets the tunnel neighbour table (ARP) of the switch: the MAC of each other host's tunnel address.

The switch would learn them by itself, but lose the first packets to each host.
"""

import subprocess

from nuage_lab.hosts.underlay import tunnel_mac

REPEAT_S = 60.0  # well below the 15 minutes after which the switch forgets them
TIMEOUT_S = 5


class TunnelNeighbours:
    """The entries that this process has set on one tunnel bridge."""

    def __init__(self, tunnel_bridge):
        self.tunnel_bridge = tunnel_bridge
        self._known = set()
        self._all_set_at = 0.0

    def forget(self):
        """Set all entries again next time, because the switch was restarted."""
        self._known = set()

    def refresh(self, addresses, now):
        """Set the entries of new tunnel addresses, and those of all addresses every minute.

        What fails is tried again at the next call.
        """
        if now - self._all_set_at > REPEAT_S:
            self._known = set()
            self._all_set_at = now
        command = ["ovs-appctl", f"--timeout={TIMEOUT_S}", "-t", "ovs-vswitchd", "tnl/neigh/set"]
        for address in sorted(addresses - self._known):
            argv = [*command, self.tunnel_bridge, address, tunnel_mac(address)]
            if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
                self._known.add(address)
