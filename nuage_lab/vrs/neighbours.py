"""Tells the switch the MACs of its tunnel peers. It would find them itself, but lose the first packets to each."""

import subprocess

from nuage_lab.hosts.underlay import tunnel_mac

REPEAT_S = 60.0  # well below the 15 minutes after which the switch forgets them
TIMEOUT_S = 5


class Neighbours:
    def __init__(self, tunnel_bridge):
        self.tunnel_bridge = tunnel_bridge
        self._known = set()
        self._told_at = 0.0

    def forget(self):
        """Tell everything again next time: the switch was restarted."""
        self._known = set()

    def tell(self, peers, now):
        """Tell the switch the peers, given as tunnel addresses, that it does not know; all of them every minute."""
        if now - self._told_at > REPEAT_S:
            self._known, self._told_at = set(), now
        for peer in sorted(peers - self._known):
            argv = [
                "ovs-appctl",
                f"--timeout={TIMEOUT_S}",
                "-t",
                "ovs-vswitchd",
                "tnl/neigh/set",
                self.tunnel_bridge,
                peer,
                tunnel_mac(peer),
            ]
            if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
                self._known.add(peer)
