// Owns the row of one vPort: its interface, container and policy groups, and how they are shown.

import { element, remove, unwatch, value, watch } from "./dom.js";
import { rank } from "./kinds.js";

export const COLUMNS = ["Address", "MAC", "Container", "Policy groups", "Status", "vPort", "Host"];
const GOOD = new Set(["RUNNING", "UP"]);
const BAD = new Set(["DOWN", "UNREACHABLE", "CRASHED", "DELETE_PENDING", "BLOCKED"]);

/** A state in words, with a matching colour. */
function state(text) {
  if (!text) return [];
  const mood = GOOD.has(text) ? "good" : BAD.has(text) ? "bad" : "idle";
  return [element("span", { class: `state ${mood}` }, text)];
}

export class Row {
  interface = null;
  container = null;
  groups = [];
  #cells;
  #api;
  #isSeen = false;
  #areGroupsStale;

  constructor(api, vport, hasGroups) {
    this.#api = api;
    this.vport = vport;
    this.#areGroupsStale = hasGroups;
    this.#cells = COLUMNS.map((label) => element("td", { "data-label": label, class: label.toLowerCase().replace(" ", "-") }));
    this.node = element("tr", { tabindex: "-1", "data-vport": vport.ID }, ...this.#cells);
    watch(this.node, (isSeen) => {
      this.#isSeen = isSeen;
      this.#askGroups();
    });
  }

  get rank() {
    return rank(this.interface?.IPAddress);
  }

  get name() {
    return this.container?.name ?? this.vport.name;
  }

  /** The memberships may have changed; asks for them when the row is visible. */
  staleGroups() {
    this.#areGroupsStale = true;
    this.#askGroups();
  }

  end(heir) {
    unwatch(this.node);
    remove(this.node, heir);
  }

  async #askGroups() {
    if (!this.#areGroupsStale || !this.#isSeen) return;
    this.#areGroupsStale = false;
    try {
      this.groups = (await this.#api.list(`vports/${this.vport.ID}/policygroups`, { order: "name ASC" })).items;
      this.draw();
    } catch (failure) {
      this.#areGroupsStale = failure.status !== 404;
    }
  }

  draw() {
    const { vport, interface: port, container, groups } = this;
    const addresses = [port?.IPAddress, port?.IPv6Address].filter(Boolean);
    const none = element("span", { class: "faint" }, port ? "…" : `no container: ${vport.type} vPort `, port ? null : value(vport.name));
    this.#write([
      addresses.map((one) => value(one, "code line")),
      port ? [value(port.MAC, "code")] : [],
      [container ? value(container.name) : none],
      groups.map((group) => value(group.name, "tag")),
      state(container?.status),
      state(vport.operationalState),
      container && container.hypervisorIP !== "FFFFFF" ? [value(container.hypervisorIP, "code")] : [],
    ]);
  }

  #write(contents) {
    contents.forEach((nodes, at) => {
      const made = nodes.map((node) => node.outerHTML).join("");
      if (this.#cells[at].written === made) return; // what stays is not touched: a selection in it stays, too
      this.#cells[at].written = made;
      this.#cells[at].replaceChildren(...nodes);
    });
  }
}
