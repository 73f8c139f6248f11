"""Faults that a test orders from the controller (vrs §10.1, item 7).

They affect the resolutions that start after the order.
"""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True)
class ControllerFaults:
    """The faults in force.

    `delay_s` is the wait before each resolution, `never` the UUIDs that are not resolved, or
    ("all",), and `wrong_address` replaces the address by another one of the network.
    """

    delay_s: float = 0.0
    never: tuple = ()
    wrong_address: bool = False

    @classmethod
    def from_dict(cls, words):
        """Return the faults of a JSON object; raises TypeError or ValueError for a bad value."""
        return cls(
            float(words.get("delay_s", 0)),
            tuple(words.get("never", ())),
            bool(words.get("wrong_address", False)),
        )

    def is_never(self, vm_uuid):
        """Return whether a container is never to be resolved."""
        return "all" in self.never or vm_uuid in self.never

    def spoil(self, answer):
        """Return what the controller is to believe of the VSD's answer."""
        if not self.wrong_address or not answer.get("ip"):
            return answer
        network = ipaddress.ip_network(f"{answer['ip']}/{answer['netmask']}", strict=False)
        place = int(ipaddress.ip_address(answer["ip"])) - int(network[0])
        return {
            **answer,
            "ip": str(network[(place + network.num_addresses // 2) % network.num_addresses]),
        }
