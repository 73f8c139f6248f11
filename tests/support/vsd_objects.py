"""Objects of the simulated VSD: bodies of requests, the seeded tree by names, and the settings that
a test starts from.
"""

import itertools
import time
import uuid

_NUMBERS = itertools.count(1)
DEFAULTS = {
    "latency_ms": 0,
    "allocation": "lowest",
    "key_validity_s": 86400,
    "key_renewal_s": 300,
    "demand_confirmation": False,
    "maintenance": False,
    "put_answers_200": False,
    "page_max": 500,
    "lenient_filter": False,
    "event_interval_ms": 20,
    "event_timeout_s": 25,
    "purge_s": 0,
    "unreachable_s": 3600,
    "resync_deletion_s": 120,
    "max_failed_logins": 0,
    "event_max": 100,
    "event_inactive_s": 600,
    "page_default": 50,
    "stats_points": 30,
    "stats_max_points": 10000,
    "dhcp_options": 16,
}


class Seed:
    """Finds objects of the seeded tree by the path of their names."""

    def __init__(self, client):
        self._client = client

    def one(self, path, name):
        """Return the object of a list that has a name."""
        status, _, body = self._client.get(path, filter=f'name == "{name}"')
        assert status == 200 and len(body) == 1, (path, name, body)
        return body[0]

    def domain(self, name="Domain", enterprise="Enterprise"):
        """Return a domain."""
        return self.one(f"/enterprises/{self.one('/enterprises', enterprise)['ID']}/domains", name)

    def subnet(self, name, zone="Zone", domain="Domain", enterprise="Enterprise"):
        """Return a subnet."""
        zone_id = self.one(f"/domains/{self.domain(domain, enterprise)['ID']}/zones", zone)["ID"]
        return self.one(f"/zones/{zone_id}/subnets", name)

    def l2domain(self, name):
        """Return an L2 domain of Enterprise."""
        return self.one(
            f"/enterprises/{self.one('/enterprises', 'Enterprise')['ID']}/l2domains", name
        )

    def group(self, name, domain="Domain"):
        """Return a policy group of a domain."""
        return self.one(f"/domains/{self.domain(domain)['ID']}/policygroups", name)


def interface(network, **more):
    """Return an entry of a container's interfaces with a MAC of its own."""
    number = next(_NUMBERS)
    return {
        "name": f"nln{number:x}-1",
        "MAC": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        "attachedNetworkID": network["ID"],
        **more,
    }


def container(network, address=None, **more):
    """Return the body of a container with one interface."""
    entry = interface(network) if address is None else interface(network, IPAddress=address)
    return {
        "UUID": uuid.uuid4().hex,
        "name": "web",
        "externalID": "host-1",
        "interfaces": [entry],
        **more,
    }


def created(client, body):
    """Create a container and return it."""
    status, _, reply = client.post("/containers", body)
    assert status == 201, reply
    return reply[0]


def refused(answer, status, code):
    """Check the status and code of a refusal and return its error."""
    assert answer[0] == status, answer[2]
    assert answer[2].get("internalErrorCode") == code, answer[2]
    return answer[2]["errors"][0]


def addresses_of(client, network):
    """Return the addresses of the interfaces in a subnet."""
    _, _, body = client.get(f"/subnets/{network['ID']}/containerinterfaces")
    return [one["IPAddress"] for one in body or []]


def eventually(condition, timeout_s=60):
    """Wait until a condition holds; returns whether it did."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def event_ids(body):
    """Return the IDs of all objects that a reply of /events tells of."""
    return {one["ID"] for event in body["events"] for one in event["entities"]}
