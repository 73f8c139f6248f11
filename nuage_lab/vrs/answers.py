"""What the VSD's answers become: columns of Nuage_Port_Table, segments and endpoints of flows.

Pure functions. Never decides which rows and endpoints count; controller.py does.
"""

from nuage_lab.hosts.underlay import tunnel_address
from nuage_lab.vrs import flows

# The columns of a row that is not resolved.
BLANK = {
    "ip_addr": "",
    "subnet_mask": "",
    "gateway": "",
    "nuage_domain": "",
    "nuage_zone": "",
    "nuage_network": "",
    "nuage_network_type": "",
    "evpn_id": 0,
    "vrf_id": 0,
}


def resolution_columns(answer):
    """Return the columns of Nuage_Port_Table for the VSD's answer (vrs §10.1)."""
    return {
        "ip_addr": answer["ip"] or "",
        "subnet_mask": answer["netmask"] or "",
        "gateway": answer["gateway"] or "",
        "nuage_domain": answer["domain"] or "",
        "nuage_zone": answer["zone"] or "",
        "nuage_network": answer["network"] or "",
        "nuage_network_type": "ipv4",
        "evpn_id": answer["evpn_id"],
        "vrf_id": answer["vrf_id"] or 0,
    }


def segment_of(row):
    """Return the Segment of a subnet in /vsc/networks, or of an answer to /vsc/resolve."""
    tail = (row["evpn_id"] & 0xFFFFFF).to_bytes(3, "big").hex(":")
    return flows.Segment(
        evpn_id=row["evpn_id"],
        vrf_id=row["vrf_id"] or 0,
        gateway=row["gateway"] or "",
        gateway_mac=(row.get("gateway_mac") or "").lower() or f"68:54:ed:{tail}",
        is_l2=bool(row.get("l2")),
    )


def local_endpoint(attachment, answer):
    """Return the Endpoint of a row of this host that was resolved."""
    return flows.Endpoint(
        mac=attachment.mac,
        address=answer["ip"] or "",
        evpn_id=answer["evpn_id"],
        vrf_id=answer["vrf_id"] or 0,
        port_number=attachment.port_number,
    )


def remote_endpoint(row):
    """Return the Endpoint of a row in /vsc/endpoints."""
    return flows.Endpoint(
        mac=row["mac"].lower(),
        address=row["ip"] or "",
        evpn_id=row["evpn_id"],
        vrf_id=row["vrf_id"] or 0,
        tunnel_address=tunnel_address(row["hypervisor_ip"]),
    )
