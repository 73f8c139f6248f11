"""Cuts in the underlay: rules on the infra host's bridges that let nothing pass between two hosts,
or between a host and a service.

They sit on the bridges because Open vSwitch takes a tunnel's frames from eth1 before a host's own
firewall could see them. A cut is for the host's name, so a host that is killed and comes back is
still cut off. The kernel is the only place where they are kept.
"""

from nuage_lab.hosts.run import LabError, run

EBTABLES = "ebtables-nft"
WIRES = {"control": "vu", "tunnel": "vt"}  # what underlay.plug_host calls its ends of eth0 and eth1


def rules(first, second, only, ports):
    """Return (chain, rule) pairs, spelt as ebtables prints them, that cut two hosts apart.

    Number 0 is infra.

    only narrows the cut: between hosts to one of WIRES, at infra to one of ports, a map of services
    to TCP ports.
    """
    first, second = sorted((first, second), reverse=True)
    if first == second:
        raise LabError("a cut needs two hosts")
    if not second and only is None:
        return [("INPUT", f"-i vu{first} -j DROP"), ("OUTPUT", f"-o vu{first} -j DROP")]
    if not second and only in ports:
        return [
            ("INPUT", f"-p IPv4 -i vu{first} --ip-proto tcp --ip-dport {ports[only]} -j DROP"),
            ("OUTPUT", f"-p IPv4 -o vu{first} --ip-proto tcp --ip-sport {ports[only]} -j DROP"),
        ]
    if second and (only is None or only in WIRES):
        return [
            ("FORWARD", f"-i {wire}{one} -o {wire}{other} -j DROP")
            for name, wire in WIRES.items()
            if only in (None, name)
            for one, other in ((first, second), (second, first))
        ]
    raise LabError(
        f"cannot cut {only} alone here; between hosts there is {' and '.join(WIRES)}, "
        f"at infra {' and '.join(ports)}"
    )


def present(namespace):
    """Return the rules that the infra host's namespace has, as (chain, rule)."""
    found, chain = [], None
    for line in run(_command(namespace, "-L"), timeout=20.0).stdout.splitlines():
        if line.startswith("Bridge chain: "):
            chain = line.split()[2].rstrip(",")
        elif line.startswith("-"):
            found.append((chain, line.strip()))
    return found


def add(namespace, wanted):
    """Add the rules that are not there yet."""
    there = present(namespace)
    for chain, rule in wanted:
        if (chain, rule) not in there:
            run(_command(namespace, "-A", chain, *rule.split()), timeout=20.0)


def remove(namespace, unwanted=None):
    """Remove those of the rules that are there, or all."""
    for chain, rule in present(namespace):
        if unwanted is None or (chain, rule) in unwanted:
            run(_command(namespace, "-D", chain, *rule.split()), timeout=20.0)


def _command(namespace, *words):
    return ["ip", "netns", "exec", namespace, EBTABLES, *words]
