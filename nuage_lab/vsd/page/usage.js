// Owns the bar of one network: how many of its addresses are used, reserved and free. Asks only while the bar is visible.

import { element, number, setText, unwatch, watch } from "./dom.js";
import { hosts } from "./kinds.js";
import { Pace } from "./pace.js";

const RESERVATIONS = { ipreservations: "IPAddress", vmipreservations: "IPV4Address" };

export class Usage {
  #api;
  #path;
  #network;
  #isSeen = false;
  #isStale = true;
  #pace = new Pace(() => this.#look());

  constructor(api, path, network, isL2) {
    this.#api = api;
    this.#path = path;
    this.#network = network;
    this.kinds = isL2 ? ["vmipreservations"] : Object.keys(RESERVATIONS);
    this.used = element("span", { class: "used" });
    this.reserved = element("span", { class: "reserved" });
    this.bar = element("span", { class: "bar", role: "img", "aria-label": "addresses are being counted" }, this.used, this.reserved);
    this.figures = element("span", { class: "figures", "aria-hidden": "true" });
    this.node = element("span", { class: "usage" }, this.bar, this.figures);
    watch(this.node, (isSeen) => {
      this.#isSeen = isSeen;
      this.#ask();
    });
  }

  set network(network) {
    this.#network = network;
    this.stale();
  }

  /** Something has changed. */
  stale() {
    this.#isStale = true;
    this.#ask();
  }

  end() {
    this.#pace.end();
    unwatch(this.node);
  }

  #ask() {
    if (!this.#isStale || !this.#isSeen) return;
    this.#isStale = false;
    this.#pace.ask();
  }

  async #look() {
    const used = await this.#api.count(`${this.#path}/containerinterfaces`);
    this.#show(used, await this.#kept());
  }

  /** How many addresses are neither used nor free: unused reservations, and the gateway. */
  async #kept() {
    const kept = new Set();
    for (const kind of this.kinds) {
      const { items } = await this.#api.list(`${this.#path}/${kind}`, { page: 0, size: 500 });
      for (const one of items) if (one[RESERVATIONS[kind]]) kept.add(one[RESERVATIONS[kind]]);
    }
    let inUse = 0;
    const wanted = [...kept];
    for (let at = 0; at < wanted.length; at += 25) {
      const filter = wanted.slice(at, at + 25).map((address) => `IPAddress == "${address}"`).join(" or ");
      inUse += await this.#api.count(`${this.#path}/containerinterfaces`, filter);
    }
    return kept.size - inUse + (this.#network.gateway && !kept.has(this.#network.gateway) ? 1 : 0);
  }

  #show(used, kept) {
    const size = hosts(this.#network);
    if (size === null) {
      this.bar.hidden = true;
      setText(this.figures, this.#network.IPv6Address ? `${number(used)} used` : "no addresses");
      this.figures.removeAttribute("aria-hidden");
      return;
    }
    this.bar.hidden = false;
    this.figures.setAttribute("aria-hidden", "true"); // the label of the bar has all of it
    const free = Math.max(0, size - used - kept);
    const part = (count) => `${count ? Math.max(1.5, (100 * count) / size) : 0}%`; // also one of 65,534 stays visible
    this.used.style.width = part(used);
    this.reserved.style.width = part(kept);
    this.bar.classList.toggle("full", free === 0);
    this.bar.setAttribute("aria-label", `${number(used)} used, ${number(kept)} reserved, ${number(free)} free of ${number(size)} addresses`);
    setText(this.figures, `${number(used)} used · ${number(free)} free`);
  }
}
