"""The wires between lab hosts: which address is whose, the network namespaces, two bridges in the
infra host.

ul0  198.18.0.0/25    eth0 of every host; the VSD simulator is on .1 ul1  198.18.0.128/25  eth1 of
every host, MTU 9000, for tunnels; the address sits on the host's br-phy
"""

import ipaddress
import os

from nuage_lab.hosts.run import run

INFRA_ADDRESS = "198.18.0.1"
FIRST_HOST = ipaddress.ip_address("198.18.0.10")
TUNNEL_OFFSET = 130
MAX_HOSTS = 100
TUNNEL_MTU = 9000


def host_address(index):
    """Return the eth0 address of host number index (from 1)."""
    return str(FIRST_HOST + index)


def tunnel_address(address):
    """Return the tunnel address of the host whose eth0 has this address."""
    return str(ipaddress.ip_address(address) + TUNNEL_OFFSET)


def tunnel_mac(address):
    """Return the MAC of whatever has this address: locally administered, and the same in every life
    of a lab.
    """
    return "0a:00:" + ":".join(f"{byte:02x}" for byte in ipaddress.ip_address(address).packed)


def is_host_address(address):
    """Tell whether an address is one a lab host can have."""
    try:
        return 0 < int(ipaddress.ip_address(address)) - int(FIRST_HOST) <= MAX_HOSTS
    except ValueError:
        return False


def ip(namespace, *words):
    """Run ip(8) in a network namespace."""
    return run(["ip", "-n", namespace, *words])


def namespace_exists(namespace):
    """Tell whether a network namespace of this name is there."""
    return os.path.exists(f"/run/netns/{namespace}")


def add_namespace(namespace):
    """Make a network namespace whose loopback is up."""
    run(["ip", "netns", "add", namespace])
    ip(namespace, "link", "set", "lo", "up")


def allow_forwarding(namespace):
    """Let a host's kernel pass packets on, as every Docker host's does: an engine without bridge
    warns, but does not set it.
    """
    setting = "echo 1 >/proc/sys/net/ipv4/ip_forward"
    run(["ip", "netns", "exec", namespace, "sh", "-c", setting])


def delete_namespace(namespace):
    """Delete a network namespace and every device in it; nothing happens when it is not there."""
    if namespace_exists(namespace):
        run(["ip", "netns", "delete", namespace])


def add_bridges(infra):
    """Make the two underlay bridges in the infra host's network namespace."""
    # With an address of its own; else the bridge takes a port's, and changes it when that host
    # goes.
    ip(infra, "link", "add", "ul0", "address", tunnel_mac(INFRA_ADDRESS), "type", "bridge")
    ip(infra, "addr", "add", f"{INFRA_ADDRESS}/25", "dev", "ul0")
    ip(infra, "link", "set", "ul0", "up")
    ip(infra, "link", "add", "ul1", "mtu", str(TUNNEL_MTU), "type", "bridge")
    ip(infra, "link", "set", "ul1", "up")


def plug_host(infra, namespace, index):
    """Wire eth0 and eth1 of host number index to the underlay bridges."""
    unplug_host(
        infra, index
    )  # the wires of an earlier life: the kernel takes its time to empty a namespace
    address = host_address(
        index
    )  # and a MAC made from it: a host that comes back has its old one, as real ones do
    ip(
        infra,
        "link",
        "add",
        f"vu{index}",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "address",
        tunnel_mac(address),
        "netns",
        namespace,
    )
    ip(infra, "link", "set", f"vu{index}", "master", "ul0", "up")
    ip(namespace, "addr", "add", f"{address}/25", "dev", "eth0")
    ip(namespace, "link", "set", "eth0", "up")
    ip(
        infra,
        "link",
        "add",
        f"vt{index}",
        "mtu",
        str(TUNNEL_MTU),
        "type",
        "veth",
        "peer",
        "name",
        "eth1",
        "mtu",
        str(TUNNEL_MTU),
        "netns",
        namespace,
    )
    ip(infra, "link", "set", f"vt{index}", "master", "ul1", "up")
    # The kernel also sees what arrives on eth1, which belongs to Open vSwitch: it must not answer.
    ip(namespace, "link", "set", "eth1", "arp", "off", "addrgenmode", "none", "up")


def unplug_host(infra, index):
    """Take the wires of host number index away, at once. Idempotent."""
    for device in (f"vu{index}", f"vt{index}"):
        run(["ip", "-n", infra, "link", "delete", device], check=False)
