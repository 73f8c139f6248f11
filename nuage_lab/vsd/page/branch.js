// Owns the nested lists: a shelf holds the objects of one kind below one parent; a branch is one object and shows what is below.
// A branch is a button in a list, with its state (open or closed): it works with a keyboard and a screen reader.

import { arrange, button, element, number, order, remove, setText, value } from "./dom.js";
import { KINDS, ranges } from "./kinds.js";
import { Meanwhile } from "./meanwhile.js";
import { Pace } from "./pace.js";
import { Usage } from "./usage.js";
import { VPorts } from "./vports.js";

const PAGE = 100;
let counter = 0;

export class Shelf {
  #meanwhile = new Meanwhile();
  #pages = 1;
  #total = 0;
  #isPartial = false; // there are objects without a branch: how many there are must be asked
  #recount = new Pace(async () => {
    this.#total = await this.tree.api.count(this.path);
    this.draw();
  });

  constructor(tree, kind, parent) {
    this.tree = tree;
    this.kind = kind;
    this.parent = parent;
    this.branches = new Map();
    this.path = parent ? `${parent.path}/${KINDS[kind].path}` : KINDS[kind].path;
    this.list = element("ul", { class: "branches", role: "list" });
    this.text = element("span");
    this.note = element("p", { class: "note", hidden: true }, this.text, " ", button(`Show ${PAGE} more`, () => tree.attempt(() => this.#more())));
    this.node = element("div", { class: "shelf" }, this.list, this.note);
  }

  /** Reads the shown pages again. Removes what they lack, unless an event added it meanwhile, or `keeps` is set. */
  async load(keeps = false) {
    const { there, stays } = await this.#pagesShown();
    const listed = new Set(there.map((one) => one.ID));
    for (const id of [...this.branches.keys()]) if (!keeps && !listed.has(id) && !stays(id)) this.#drop(id);
    for (const entity of there) this.#put(entity);
    this.draw();
  }

  async #pagesShown() {
    const found = [];
    this.#meanwhile.begin();
    try {
      for (let page = 0; page < this.#pages; page += 1) {
        const { items, count } = await this.tree.api.list(this.path, { page, size: PAGE, order: "name ASC" });
        found.push(...items);
        this.#total = count;
        this.#isPartial = found.length < count;
        if (!this.#isPartial) break;
      }
    } catch (failure) {
      this.#meanwhile.end([]);
      throw failure;
    }
    return this.#meanwhile.end(found);
  }

  /** Follows one event. */
  follow(type, entity) {
    if (type === "DELETE") {
      this.#meanwhile.went(entity.ID);
      this.#drop(entity.ID);
    } else {
      this.#meanwhile.came(entity.ID);
      this.#put(entity);
    }
    if (this.#isPartial && type !== "UPDATE") this.#recount.ask();
    this.draw();
  }

  /** Returns the branch of an object, also of one beyond the shown pages. */
  async find(id) {
    if (!this.branches.has(id)) {
      const entity = await this.tree.api.get(`${KINDS[this.kind].path}/${id}`);
      if (!entity) return null;
      this.#put(entity);
      this.draw();
    }
    return this.branches.get(id) ?? null;
  }

  end() {
    this.#recount.end();
    for (const branch of this.branches.values()) branch.end();
  }

  draw() {
    const sorted = [...this.branches.values()].sort((one, other) => order(one.entity.name, other.entity.name));
    arrange(this.list, sorted.map((branch) => branch.node));
    this.list.hidden = sorted.length === 0;
    this.note.hidden = !this.#isPartial;
    const total = this.#total - (KINDS[this.kind].hidden ? 1 : 0);
    setText(this.text, `${number(sorted.length)} of ${number(Math.max(total, sorted.length))}.`);
    this.parent?.tellEmpty();
  }

  async #more() {
    this.#pages += 1;
    await this.load(true);
    if (this.note.hidden) this.list.lastElementChild?.querySelector(".twig").focus();
  }

  #put(entity) {
    if (entity.name === KINDS[this.kind].hidden) return;
    const known = this.branches.get(entity.ID);
    if (known) known.entity = entity;
    else this.branches.set(entity.ID, new Branch(this.tree, this.kind, entity, this.parent));
  }

  #drop(id) {
    this.branches.get(id)?.end();
    this.branches.delete(id);
  }
}

export class Branch {
  #entity;
  #shelves = [];

  constructor(tree, kind, entity, parent) {
    const described = KINDS[kind];
    this.tree = tree;
    this.kind = kind;
    this.parent = parent;
    this.path = `${described.path}/${entity.ID}`;
    this.vports = null;
    this.usage = described.isNetwork ? new Usage(tree.api, this.path, entity, kind === "l2domain") : null;
    this.name = value("", "name");
    this.facts = element("span", { class: "facts" });
    counter += 1;
    this.below = element("div", { class: "below", id: `below-${counter}`, hidden: true });
    this.twig = button("", () => this.toggle(), { class: "twig", "aria-expanded": "false", "aria-controls": this.below.id });
    this.twig.append(element("span", { class: "kind" }, described.label), " ", this.name, " ", this.facts);
    this.empty = element("p", { class: "note", hidden: true }, "Nothing below.");
    this.node = element("li", { class: kind }, element("div", { class: "line" }, this.twig, this.usage?.node), this.below);
    this.entity = entity;
    tree.branches.set(entity.ID, this);
  }

  get entity() {
    return this.#entity;
  }

  set entity(entity) {
    this.#entity = entity;
    setText(this.name, entity.name);
    this.facts.replaceChildren(...ranges(entity).map((one) => value(one, "code")));
    if (entity.entityState) this.facts.append(" ", element("span", { class: "state idle" }, entity.entityState));
    if (this.usage) this.usage.network = entity;
  }

  get isOpen() {
    return this.twig.getAttribute("aria-expanded") === "true";
  }

  toggle() {
    if (this.isOpen) this.close();
    else this.tree.attempt(() => this.open());
  }

  async open() {
    if (this.isOpen) return;
    this.twig.setAttribute("aria-expanded", "true");
    this.below.hidden = false;
    if (this.usage) {
      const groups = this.kind === "l2domain" ? `${this.path}/policygroups` : `domains/${this.#domain()}/policygroups`;
      this.vports = new VPorts(this, this.tree.recent, groups);
      this.below.replaceChildren(this.vports.node);
    } else {
      this.#shelves = KINDS[this.kind].below.map((kind) => new Shelf(this.tree, kind, this));
      this.below.replaceChildren(...this.#shelves.map((shelf) => shelf.node), this.empty);
    }
    try {
      await this.load();
    } catch (failure) {
      this.close();
      throw failure;
    }
  }

  /** Reads again what is open, here and below. */
  async load() {
    if (!this.isOpen) return;
    this.usage?.stale();
    await this.vports?.load();
    await Promise.all(this.#shelves.map((shelf) => shelf.load()));
    await Promise.all(this.#shelves.flatMap((shelf) => [...shelf.branches.values()]).map((branch) => branch.load()));
  }

  close() {
    this.twig.setAttribute("aria-expanded", "false");
    this.below.hidden = true;
    for (const shelf of this.#shelves) shelf.end();
    this.vports?.end();
    [this.#shelves, this.vports] = [[], null];
    this.below.replaceChildren();
  }

  end() {
    this.close();
    this.usage?.end();
    this.tree.branches.delete(this.entity.ID);
    remove(this.node, this.parent?.twig);
  }

  shelf(kind) {
    return this.#shelves.find((shelf) => shelf.kind === kind) ?? null;
  }

  tellEmpty() {
    this.empty.hidden = this.#shelves.some((shelf) => shelf.branches.size > 0);
  }

  #domain() {
    return this.parent.parent.entity.ID;
  }
}
