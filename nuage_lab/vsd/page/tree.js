// Owns the tree of networks: its root, the path to an object, what events change, and the arrow keys.

import { Shelf } from "./branch.js";
import { KINDS } from "./kinds.js";

const REMEMBERED = 500; // containers known from events, until their interfaces come

export class Tree {
  branches = new Map(); // those that exist on the page, by ID
  recent = new Map();
  #loading = null;
  #isOnceMore = false;

  constructor(node, api, attempt) {
    this.node = node;
    this.api = api;
    this.attempt = attempt;
    node.addEventListener("keydown", (event) => this.#key(event));
    this.clear();
  }

  clear() {
    this.root?.end();
    this.#loading = null;
    this.branches.clear();
    this.recent.clear();
    this.root = new Shelf(this, "enterprise", null);
    this.node.replaceChildren(this.root.node);
  }

  /** Lists what is visible: the enterprises, and all that is open below. A call during a run causes one more run. */
  load() {
    if (this.#loading) this.#isOnceMore = true;
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #load() {
    do {
      this.#isOnceMore = false;
      await this.root.load();
      await Promise.all([...this.root.branches.values()].map((branch) => branch.load()));
    } while (this.#isOnceMore);
  }

  /** Opens the path [{kind, id}] from the enterprise down to an object, and focuses it, or a vPort in it. */
  async reveal(way, vportId) {
    let shelf = this.root, branch = null;
    for (const { kind, id } of way) {
      shelf = branch ? branch.shelf(kind) : this.root;
      branch = await shelf?.find(id);
      if (!branch) return false;
      if (id !== way.at(-1).id || vportId) await branch.open();
    }
    const target = (vportId && (await branch.vports?.find(vportId))) || branch.twig;
    target.scrollIntoView({ block: "center" });
    target.focus();
    return true;
  }

  /** Applies a batch of events; returns how many vPorts were added and removed. */
  follow(events) {
    const counts = { came: 0, went: 0 };
    for (const { type, entityType, entities } of events) {
      for (const entity of entities ?? []) this.#one(type, entityType, entity, counts);
    }
    for (const branch of this.branches.values()) branch.vports?.flush();
    return counts;
  }

  #one(type, kind, entity, counts) {
    if (kind in KINDS) {
      const shelf = kind === "enterprise" ? this.root : this.branches.get(entity.parentID)?.shelf(kind);
      shelf?.follow(type, entity);
    } else if (kind === "vport") {
      counts.came += type === "CREATE" ? 1 : 0;
      counts.went += type === "DELETE" ? 1 : 0;
      this.branches.get(entity.parentID)?.vports?.vport(type, entity);
    } else if (kind === "containerinterface") {
      const branch = this.branches.get(entity.attachedNetworkID);
      branch?.usage.stale();
      branch?.vports?.interface(type, entity);
    } else if (kind === "container") {
      this.#remember(type, entity);
      for (const port of entity.interfaces ?? []) this.branches.get(port.attachedNetworkID)?.vports?.container(type, entity);
    } else if (kind === "policygroup") {
      for (const branch of this.branches.values()) branch.vports?.group(type, entity);
    } else if (kind === "ipreservation" || kind === "vmipreservation") {
      this.branches.get(entity.parentID)?.usage?.stale();
    }
  }

  #remember(type, container) {
    this.recent.delete(container.ID);
    if (type !== "DELETE") this.recent.set(container.ID, container);
    if (this.recent.size > REMEMBERED) this.recent.delete(this.recent.keys().next().value);
  }

  #key(event) {
    const twig = event.target.closest?.(".twig");
    if (!twig || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const all = [...this.node.querySelectorAll(".twig")];
    const isOpen = twig.getAttribute("aria-expanded") === "true";
    const at = all.indexOf(twig);
    const outer = twig.closest(".below")?.previousElementSibling.querySelector(".twig");
    const moves = {
      ArrowDown: () => all[at + 1],
      ArrowUp: () => all[at - 1],
      Home: () => all[0],
      End: () => all.at(-1),
      ArrowRight: () => (isOpen ? all[at + 1] : twig.click()),
      ArrowLeft: () => (isOpen ? twig.click() : outer),
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    moves[event.key]()?.focus();
  }
}
