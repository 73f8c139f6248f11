"""Open vSwitch of a lab host: database with the Nuage tables, programs, bridges, tunnel port.

It always uses the userspace datapath, so that it needs no kernel module and hosts do not meet in
the kernel.
"""

import socket
import uuid

from nuage_lab.hosts.daemon import Daemon
from nuage_lab.hosts.underlay import TUNNEL_MTU, tunnel_address, tunnel_mac
from nuage_lab.vrs.schema import merged_schema

BRIDGE = "alubr0"
TUNNEL_BRIDGE = "br-phy"
TUNNEL_PORT = "vxlan0"
DIRECTORY = "/run/openvswitch"
DATABASE_SOCKET = f"{DIRECTORY}/db.sock"
DATABASE = "/etc/openvswitch/conf.db"
SCHEMA = "/etc/openvswitch/vrs.ovsschema"
STOCK_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def system_id(host):
    """Return the host's system-id, the same after every start of a lab."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{host.name}.nuage-lab.invalid"))


def database_server(host):
    """Return the Daemon for ovsdb-server; it is ready when its socket accepts connections."""
    argv = [
        "ovsdb-server",
        DATABASE,
        f"--remote=punix:{DATABASE_SOCKET}",
        "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
        f"--pidfile={DIRECTORY}/ovsdb-server.pid",
        "--no-chdir",
        "-vconsole:info",
        "-vsyslog:off",
    ]
    return Daemon(host, "ovsdb-server", argv, lambda: is_listening(host.path(DATABASE_SOCKET)))


def switch_daemon(host):
    """Return the Daemon for ovs-vswitchd; it is ready when alubr0's management socket is."""
    argv = [
        "ovs-vswitchd",
        f"unix:{DATABASE_SOCKET}",
        "--disable-system",
        f"--pidfile={DIRECTORY}/ovs-vswitchd.pid",
        "--no-chdir",
        "-vconsole:info",
        "-vsyslog:off",
    ]
    return Daemon(
        host, "ovs-vswitchd", argv, lambda: is_listening(host.path(f"{DIRECTORY}/{BRIDGE}.mgmt"))
    )


def start(host):
    """Start both programs with a bridge alubr0 that lets nothing pass. Idempotent."""
    if not host.path(DATABASE).exists():
        host.path(SCHEMA).write_text(merged_schema(host.path(STOCK_SCHEMA).read_text()))
        host.exec(["ovsdb-tool", "create", DATABASE, SCHEMA])
    database_server(host).start()
    host.exec(
        [
            "ovs-vsctl",
            "--no-wait",
            "--timeout=30",
            "init",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            f"external_ids:system-id={system_id(host)}",
            "--",
            "--may-exist",
            "add-br",
            BRIDGE,
            "--",
            "set",
            "Bridge",
            BRIDGE,
            "datapath_type=netdev",
            "fail_mode=secure",
        ]
    )
    switch_daemon(host).start()


def add_tunnel_port(host):
    """Connect alubr0 to the other hosts by VXLAN. Idempotent.

    OpenFlow chooses key and remote address of each packet. The local address must be on a port of a
    netdev bridge. That bridge must not have the MAC of eth1, because the kernel sees eth1, too.
    """
    local = tunnel_address(host.address)
    host.exec(
        [
            "ovs-vsctl",
            "--timeout=30",
            "--may-exist",
            "add-br",
            TUNNEL_BRIDGE,
            "--",
            "set",
            "Bridge",
            TUNNEL_BRIDGE,
            "datapath_type=netdev",
            f'other_config:hwaddr="{tunnel_mac(local)}"',
            "--",
            "--may-exist",
            "add-port",
            TUNNEL_BRIDGE,
            "eth1",
        ]
    )
    host.exec(["ip", "addr", "replace", f"{local}/25", "dev", TUNNEL_BRIDGE])
    host.exec(["ip", "link", "set", TUNNEL_BRIDGE, "up", "mtu", TUNNEL_MTU])
    host.exec(
        [
            "ovs-vsctl",
            "--timeout=30",
            "--may-exist",
            "add-port",
            BRIDGE,
            TUNNEL_PORT,
            "--",
            "set",
            "Interface",
            TUNNEL_PORT,
            "type=vxlan",
            "options:remote_ip=flow",
            "options:key=flow",
            f"options:local_ip={local}",
        ]
    )


def is_listening(path):
    """Return True if a unix socket accepts connections; raises OSError if not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        client.connect(str(path))
    return True
