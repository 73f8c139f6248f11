"""Faults a test asks the controller for (vrs §10.1, item 7). They meet resolutions that start after the request."""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True)
class ControllerFaults:
    """delay_s: before each resolution. never: uuids that are not resolved, or ["all"]. wrong_address: answer another one."""

    delay_s: float = 0.0
    never: tuple = ()
    wrong_address: bool = False

    @classmethod
    def from_dict(cls, words):
        """Raises TypeError or ValueError for what is not a fault."""
        return cls(
            float(words.get("delay_s", 0)),
            tuple(words.get("never", ())),
            bool(words.get("wrong_address", False)),
        )

    def is_never(self, vm_uuid):
        return "all" in self.never or vm_uuid in self.never

    def spoil(self, answer):
        """Return what the controller shall believe of VSD's answer."""
        if not self.wrong_address or not answer.get("ip"):
            return answer
        network = ipaddress.ip_network(f"{answer['ip']}/{answer['netmask']}", strict=False)
        place = int(ipaddress.ip_address(answer["ip"])) - int(network[0])
        return {
            **answer,
            "ip": str(network[(place + network.num_addresses // 2) % network.num_addresses]),
        }
