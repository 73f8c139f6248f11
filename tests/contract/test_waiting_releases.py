"""Addresses that wait to be given back: one that cannot be given back holds up no other."""

import pytest

from tests.support.scripted_engine import OPTIONS


def _refuse_deletion(host, container, count):
    rule = {"method": "DELETE", "path": f"/containers/{container['ID']}", "action": "409"}
    host.simulator.admin("POST", "/faults", {**rule, "count": count})


def test_a_container_that_the_vsd_will_not_delete_holds_up_no_other(host):
    network_id = host.engine.network_create("n")
    endpoints = [host.engine.run(f"c{number}", network_id) for number in range(4)]
    host.wait_attached(*endpoints)
    by_address = {one["interfaces"][0]["IPAddress"]: one for one in host.containers()}
    stuck, *others = [endpoint["address"].split("/")[0] for endpoint in endpoints]
    _refuse_deletion(host, by_address[stuck], 0)
    for address in others:
        _refuse_deletion(host, by_address[address], 1)  # so that they wait, behind the first one
    for endpoint in endpoints:
        host.engine.stop(endpoint)
    host.appliance.wait_until(lambda: host.addresses() == [stuck], 20, "that the others are free")
    assert host.appliance.status()["components"]["endpoints"]["pending_release"] == 1
    host.simulator.admin("DELETE", "/faults")
    host.appliance.wait_until(lambda: host.addresses() == [], 20, "that the last one is free")


@pytest.mark.parametrize("action", ["409", "500"])
def test_a_swarm_reservation_that_cannot_be_freed_holds_up_no_other(hosts, action):
    """The first one's subnet answers an error whatever is asked about it."""
    host = hosts("manager", scope="global")
    pools = []
    for subnet in ("Subnet 1", "Subnet 2"):
        body = {
            "AddressSpace": "nuage-global",
            "Pool": "",
            "SubPool": "",
            "Options": {**OPTIONS, "subnet": subnet, "com.docker.network.ipam.serial": "true"},
            "V6": False,
        }
        pools.append(host.engine.ipam.call("IpamDriver.RequestPool", body)["PoolID"])
    ids = [
        {"PoolID": pool, "Address": "", "Options": {"com.docker.network.ipam.serial": "true"}}
        for pool in pools
    ]
    addresses = [host.engine.ipam.call("IpamDriver.RequestAddress", one)["Address"] for one in ids]
    bad_subnet = pools[0].rpartition("/")[2]
    everything = {"method": "*", "path": ".", "action": "503", "count": 0}
    host.simulator.admin("POST", "/faults", everything)
    for pool, address in zip(pools, addresses, strict=True):
        released = {"PoolID": pool, "Address": address.split("/")[0]}
        host.engine.ipam.call("IpamDriver.ReleaseAddress", released)
    waiting = host.appliance.status()["components"]["endpoints"]
    assert waiting["pending_release"] == 2
    host.simulator.admin("DELETE", "/faults")
    host.simulator.admin(
        "POST", "/faults", {**everything, "path": f"/subnets/{bad_subnet}/", "action": action}
    )

    def pending():
        return host.appliance.status()["components"]["endpoints"]["pending_release"]

    host.appliance.wait_until(lambda: pending() == 1, 40, "that the other one is freed")
    host.simulator.admin("DELETE", "/faults")
    host.appliance.wait_until(lambda: pending() == 0, 40, "that the last one is freed")
