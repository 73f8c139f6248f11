// Owns the search by name, address or MAC over all objects that the user may see. Uses the filters of the REST interface.

import { button, element, setText, value } from "./dom.js";
import { quoted } from "./api.js";
import { KINDS, ranges } from "./kinds.js";

const PAUSE_MS = 250;
const LEAST = 2;
const HITS = 12; // of each kind
const hex = /^[0-9a-f]{2}([:.-]?[0-9a-f]{1,2})+[:.-]?$/i;

/** The ways in which a MAC may be written. */
function macs(text) {
  if (!hex.test(text)) return [text];
  const pairs = text.replace(/[:.-]/g, "").match(/..?/g).join(":");
  return [...new Set([text, pairs.toLowerCase(), pairs.toUpperCase()])];
}

/** A filter for an attribute that contains one of some texts; null if one of them cannot be quoted. */
function contains(name, texts) {
  const parts = texts.map((text) => quoted(text));
  return parts.includes(null) ? null : parts.map((part) => `${name} CONTAINS ${part}`).join(" or ");
}

export class Search {
  #api;
  #tree;
  #attempt;
  #timer = null;
  #turn = 0;

  constructor(api, tree, attempt) {
    this.#api = api;
    this.#tree = tree;
    this.#attempt = attempt;
    this.input = document.getElementById("query");
    this.found = document.getElementById("found");
    this.hits = document.getElementById("hits");
    this.input.addEventListener("input", () => this.#later());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.hits.addEventListener("keydown", (event) => this.#key(event));
  }

  clear() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.input.value = "";
    this.hits.replaceChildren();
    setText(this.found, "");
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#attempt(() => this.#run()), PAUSE_MS);
  }

  async #run() {
    const text = this.input.value.trim();
    this.#turn += 1;
    const turn = this.#turn;
    if (text.length < LEAST) {
      this.hits.replaceChildren();
      setText(this.found, text ? "Type at least two characters." : "");
      return;
    }
    const lists = await Promise.all([
      this.#ports(text), this.#containers(text),
      ...Object.keys(KINDS).map((kind) => this.#places(kind, text)),
    ]);
    if (turn !== this.#turn) return; // somebody has typed on
    const hits = new Map(lists.flat().map((hit) => [hit.vportId ?? hit.entity.ID, hit]));
    this.hits.replaceChildren(...[...hits.values()].map((hit) => element("li", {}, this.#hit(hit))));
    const many = lists.some((list) => list.length >= HITS) ? "The first " : "";
    setText(this.found, hits.size ? `${many}${hits.size} found` : "Nothing found");
  }

  async #list(path, text, filter) {
    const wish = { page: 0, size: HITS };
    if (filter !== null) return (await this.#api.list(path, { ...wish, filter })).items;
    const longest = text.split(/["'\\]+/).sort((one, other) => other.length - one.length)[0]; // the rest is compared here
    return (await this.#api.list(path, { page: 0, size: 200, filter: longest, plain: true })).items.slice(0, 200);
  }

  async #ports(text) {
    const filters = [contains("IPAddress", [text]), contains("IPv6Address", [text.toLowerCase()]), contains("MAC", macs(text))];
    if (filters.includes(null)) return [];
    const ports = await this.#list("containerinterfaces", text, filters.join(" or "));
    return Promise.all(ports.map(async (port) => this.#vport(await this.#api.get(`containers/${port.parentID}`), port)));
  }

  async #containers(text) {
    const names = [...new Set([text, text.toLowerCase()])];
    const filter = contains("name", names) && `${contains("name", names)} or UUID BEGINSWITH ${quoted(text)}`;
    const found = await this.#list("containers", text, filter);
    return found
      .filter((one) => filter !== null || one.name.toLowerCase().includes(text.toLowerCase()))
      .flatMap((container) => container.interfaces.map((port) => this.#vport(container, port))).slice(0, HITS);
  }

  async #places(kind, text) {
    const found = await this.#api.list(KINDS[kind].path, { page: 0, size: 50, filter: text, plain: true });
    const wanted = text.toLowerCase();
    const hits = found.items
      .filter((one) => one.name !== KINDS[kind].hidden && [one.name, ...ranges(one)].some((shown) => shown.toLowerCase().includes(wanted)))
      .slice(0, HITS).map(async (entity) => ({ kind, entity, way: (await this.#way(kind, entity.ID)) ?? [] }));
    return Promise.all(hits);
  }

  #vport(container, port) {
    return { kind: port.attachedNetworkType === "L2DOMAIN" ? "l2domain" : "subnet", container, port, vportId: port.VPortID };
  }

  #hit(hit) {
    const { kind, entity, container, port, way } = hit;
    const shown = port
      ? [value(container?.name ?? "", "name"), " ", value(port.IPAddress ?? port.IPv6Address ?? "", "code"), " ", value(port.MAC, "code")]
      : [element("span", { class: "kind" }, KINDS[kind].label), " ", value(entity.name, "name"), " ", ...ranges(entity).map((one) => value(one, "code"))];
    const names = port ? [container?.enterpriseName, port.domainName, port.zoneName, port.networkName] : way.slice(0, -1).map(({ name }) => name);
    const where = names.filter(Boolean).flatMap((one, at) => [at ? " › " : " ", value(one)]);
    const made = button("", () => this.#attempt(() => this.#go(hit)), { class: "hit" });
    made.append(...shown, element("span", { class: "faint" }, ...where));
    return made;
  }

  async #go({ kind, entity, port, vportId }) {
    const way = await this.#way(kind, entity?.ID ?? port.attachedNetworkID);
    if (!way || !(await this.#tree.reveal(way, vportId))) setText(this.found, "It no longer exists.");
  }

  /** The path from the enterprise down to an object; null if one of its parents is gone. */
  async #way(kind, id) {
    const way = [];
    while (kind) {
      const entity = await this.#api.get(`${KINDS[kind].path}/${id}`);
      if (!entity) return null;
      way.unshift({ kind, id, name: entity.name });
      [kind, id] = [entity.parentType, entity.parentID];
    }
    return way;
  }

  #key(event) {
    const buttons = [...this.hits.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    if (event.key === "Escape") {
      this.clear();
      this.input.focus();
    } else if (event.key === "Enter" && at < 0) buttons[0]?.click();
    else if (event.key === "ArrowDown") buttons[at + 1]?.focus();
    else if (event.key === "ArrowUp" && at >= 0) (buttons[at - 1] ?? this.input).focus();
    else return;
    event.preventDefault();
  }
}
