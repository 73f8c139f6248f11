// The kinds of objects in the tree: their words, what is below them, and what is hidden.

export const KINDS = {
  enterprise: { label: "Enterprise", path: "enterprises", below: ["domain", "l2domain"] },
  domain: { label: "Domain", path: "domains", below: ["zone"] },
  zone: { label: "Zone", path: "zones", below: ["subnet"], hidden: "BackHaulZone" },
  subnet: { label: "Subnet", path: "subnets", isNetwork: true },
  l2domain: { label: "L2 domain", path: "l2domains", isNetwork: true },
};

/** The prefix length of a netmask. */
function prefix(netmask) {
  return netmask.split(".").reduce((bits, part) => bits + (Number(part).toString(2).match(/1/g) ?? []).length, 0);
}

/** A network's addresses as an admin writes them: IPv4 and IPv6, or nothing. */
export function ranges(network) {
  const found = [];
  if (network.address && network.netmask) found.push(`${network.address}/${prefix(network.netmask)}`);
  if (network.IPv6Address) found.push(network.IPv6Address);
  return found;
}

/** How many IPv4 addresses a network has for hosts; null without IPv4. */
export function hosts(network) {
  return network.address && network.netmask ? Math.max(0, 2 ** (32 - prefix(network.netmask)) - 2) : null;
}

/** A number that orders IPv4 addresses; objects without one come last. */
export function rank(address) {
  const parts = /^\d+(\.\d+){3}$/.test(address ?? "") ? address.split(".") : null;
  return parts ? parts.reduce((sum, part) => sum * 256 + Number(part), 0) : Infinity;
}
