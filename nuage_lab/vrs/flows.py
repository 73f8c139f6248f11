"""What the switch is to do, as OpenFlow: pure functions from endpoints and subnets to flows.

table 0  admission: port, MAC and address must be those from the VSD;
         segment -> reg0, domain -> reg1
table 1  the gateway: answers ARP and echo requests, takes what is to be routed
table 2  delivery inside a segment
table 3  delivery inside a domain, with the MACs of the next hop

A packet without a flow is dropped, because the bridge is in fail mode secure. A packet from a
tunnel never goes back into it, because OpenFlow does not output to the port a packet came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Flows = dict[str, str]  # actions by match

VNI_MASK = 0xFFFFFF  # VXLAN has 24 bits; a collision is harmless, as delivery looks at the MAC too
MULTICAST = "01:00:00:00:00:00/01:00:00:00:00:00"


@dataclass(frozen=True)
class Segment:
    """A subnet. An L2 domain has no gateway here, and domain 0."""

    evpn_id: int
    vrf_id: int
    gateway: str
    gateway_mac: str
    is_l2: bool = False

    @property
    def is_routed(self) -> bool:
        """True if the segment has a gateway into its domain."""
        return bool(self.vrf_id and self.gateway and not self.is_l2)


@dataclass(frozen=True)
class Endpoint:
    """A container's interface: at a port of this switch, or behind a tunnel."""

    mac: str
    address: str
    evpn_id: int
    vrf_id: int
    port_number: int = 0
    tunnel_address: str = ""

    def output(self, tunnel_port: int) -> str:
        """Return the actions that deliver a packet to the endpoint."""
        if self.port_number:
            return f"output:{self.port_number}"
        return _tunnel_output(self.evpn_id, self.tunnel_address, tunnel_port)


def _tunnel_output(evpn_id: int, address: str, tunnel_port: int) -> str:
    return (
        f"set_field:{evpn_id & VNI_MASK}->tun_id,set_field:{address}->tun_dst,output:{tunnel_port}"
    )


def _swap(left: str, right: str) -> str:
    return f"push:{left}[],push:{right}[],pop:{left}[],pop:{right}[]"


ECHO_REPLY = ",".join(
    (
        _swap("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"),
        _swap("NXM_OF_IP_SRC", "NXM_OF_IP_DST"),
        "set_field:0->icmp_type",
        "set_field:64->nw_ttl",
        "IN_PORT",
    )
)


def build(
    local: Sequence[Endpoint],
    remote: Sequence[Endpoint],
    segments: Mapping[int, Segment],
    tunnel_port: int = 0,
) -> Flows:
    """Return {match: actions} for the endpoints of this host; `segments` maps evpn_id to Segment.

    Remote endpoints count only where a local one shares their segment or domain. Without a tunnel
    port (0) none counts.
    """
    flows = {"table=1,priority=0": "goto_table:2"}
    seen_segments = {e.evpn_id for e in local}
    seen_domains = {e.vrf_id for e in local if e.vrf_id}
    others = [
        e
        for e in remote
        if tunnel_port and (e.evpn_id in seen_segments or e.vrf_id in seen_domains)
    ]
    for endpoint in local:
        flows.update(_admission(endpoint))
    for endpoint in [*others, *local]:
        flows.update(_delivery(endpoint, segments.get(endpoint.evpn_id), tunnel_port))
    for evpn_id in seen_segments:
        flows.update(_flooding(evpn_id, local, others, tunnel_port))
    for segment in segments.values():
        if segment.is_routed and segment.vrf_id in seen_domains:
            flows.update(_gateway(segment, segment.evpn_id in seen_segments))
    return flows


def _admission(endpoint: Endpoint) -> Flows:
    enter = f"set_field:{endpoint.evpn_id}->reg0,set_field:{endpoint.vrf_id}->reg1,goto_table:1"
    source = f"table=0,priority=100,in_port={endpoint.port_number},dl_src={endpoint.mac}"
    if not endpoint.address:  # an L2 domain whose addresses the VSD does not manage
        return {source: enter}
    flows = {f"{source},ip,nw_src={endpoint.address}": enter}
    for address in (endpoint.address, "0.0.0.0"):
        flows[f"{source},arp,arp_sha={endpoint.mac},arp_spa={address}"] = enter
    return flows


def _delivery(endpoint: Endpoint, segment: Segment | None, tunnel_port: int) -> Flows:
    output = endpoint.output(tunnel_port)
    flows = {f"table=2,priority=100,reg0={endpoint.evpn_id},dl_dst={endpoint.mac}": output}
    if endpoint.address and segment is not None and segment.is_routed:
        flows[f"table=3,priority=100,reg1={endpoint.vrf_id},ip,nw_dst={endpoint.address}"] = (
            f"dec_ttl,set_field:{segment.gateway_mac}->eth_src,set_field:{endpoint.mac}->eth_dst,{output}"
        )
    return flows


def _flooding(
    evpn_id: int, local: Sequence[Endpoint], others: Sequence[Endpoint], tunnel_port: int
) -> Flows:
    ports = sorted(e.port_number for e in local if e.evpn_id == evpn_id)
    remote = sorted({e.tunnel_address for e in others if e.evpn_id == evpn_id})
    outputs = [f"output:{port}" for port in ports]
    outputs += [_tunnel_output(evpn_id, address, tunnel_port) for address in remote]
    flows = {f"table=2,priority=100,reg0={evpn_id},dl_dst={MULTICAST}": ",".join(outputs)}
    if tunnel_port:
        flows[f"table=0,priority=100,in_port={tunnel_port},tun_id={evpn_id & VNI_MASK}"] = (
            f"set_field:{evpn_id}->reg0,goto_table:2"
        )
    return flows


def _gateway(segment: Segment, is_local: bool) -> Flows:
    mac, address = segment.gateway_mac, segment.gateway
    echo = f"table=1,priority=300,reg1={segment.vrf_id},icmp,nw_dst={address},icmp_type=8"
    flows = {echo: ECHO_REPLY}
    if is_local:
        routed = f"table=1,priority=200,reg0={segment.evpn_id},ip,dl_dst={mac}"
        flows[routed] = "goto_table:3"
        arp = f"table=1,priority=300,reg0={segment.evpn_id},arp,arp_op=1,arp_tpa={address}"
        flows[arp] = _arp_reply(mac, address)
    return flows


def _arp_reply(mac: str, address: str) -> str:
    actions = (
        "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
        f"set_field:{mac}->eth_src",
        "set_field:2->arp_op",
        "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]",
        f"set_field:{mac}->arp_sha",
        "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]",
        f"set_field:{address}->arp_spa",
        "IN_PORT",
    )
    return ",".join(actions)


def changes(old: Flows, new: Flows) -> list[str]:
    """Return the lines for `ovs-ofctl add-flows` that turn the flows `old` into `new`.

    Removals come first.
    """
    lines = [f"delete_strict {match}" for match in old if match not in new]
    added = {match: actions for match, actions in new.items() if old.get(match) != actions}
    return lines + [f"add {match},actions={actions}" for match, actions in added.items()]
