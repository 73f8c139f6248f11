// Owns the table of the vPorts of one open network, in pages, and what events change. Asks for nothing that an event brings.

import { arrange, button, element, number, order, setText } from "./dom.js";
import { Meanwhile } from "./meanwhile.js";
import { Pace } from "./pace.js";
import { COLUMNS, Row } from "./row.js";

const PAGE = 100;
const BY_EVENTS = 500; // rows beyond are counted only, until somebody asks for them
const OLDEST_FIRST = "creationDate ASC";

export class VPorts {
  #api;
  #path;
  #groupsPath;
  #rows = new Map(); // by vPort
  #hasGroups = false;
  #total = 0;
  #isPartial = true; // there are vPorts without a row: how many there are must be asked
  #pages = 1;
  #recount = new Pace(async () => {
    this.#total = await this.#api.count(`${this.#path}/vports`);
    this.flush();
  });
  #meanwhile = new Meanwhile();
  #isDirty = false;
  #isEnded = false;

  /** `recent` has the containers known from events, by ID. */
  constructor(branch, recent, groupsPath) {
    this.#api = branch.tree.api;
    this.recent = recent;
    this.heir = branch.twig; // of the focus in a row that goes
    this.#path = branch.path;
    this.#groupsPath = groupsPath;
    const heads = COLUMNS.map((label) => element("th", { scope: "col", class: label.toLowerCase().replace(" ", "-") }, label));
    this.body = element("tbody");
    this.table = element("table", { "aria-label": `vPorts of ${branch.entity.name}` }, element("thead", {}, element("tr", {}, ...heads)), this.body);
    this.note = element("p", { class: "note" });
    this.text = element("span", {}, "Loading …");
    this.note.append(this.text);
    this.more = button(`Show ${PAGE} more`, () => branch.tree.attempt(() => this.#more()), { hidden: true });
    this.note.append(" ", this.more);
    this.table.hidden = true;
    this.node = element("div", { class: "vports" }, this.table, this.note);
  }

  end() {
    this.#isEnded = true;
    this.#recount.end();
    for (const row of this.#rows.values()) row.end();
    this.#rows.clear();
  }

  /** Reads the shown pages again. Removes what they lack, unless an event added it meanwhile, or `keeps` is set. */
  async load(keeps = false) {
    const { there, stays, containers } = await this.#list();
    if (this.#isEnded) return;
    const listed = new Set(there.map((one) => one.ID));
    for (const id of [...this.#rows.keys()]) if (!keeps && !listed.has(id) && !stays(id)) this.#drop(id);
    for (const vport of there) {
      const isKnown = this.#rows.has(vport.ID);
      const row = this.#row(vport);
      if (isKnown && this.#hasGroups) row.staleGroups();
    }
    for (const container of containers) this.container("UPDATE", container);
    await Promise.all(there.filter((one) => one.type === "CONTAINER" && !this.#rows.get(one.ID)?.interface).map((one) => this.#complete(one.ID)));
    this.#isDirty = true;
    this.flush();
  }

  async #list() {
    const [vports, containers] = [[], []];
    this.#meanwhile.begin();
    try {
      this.#hasGroups = (await this.#api.count(this.#groupsPath)) > 0;
      for (let page = 0; page < this.#pages; page += 1) {
        const wish = { page, size: PAGE, order: OLDEST_FIRST };
        const [ports, owners] = await Promise.all([this.#api.list(`${this.#path}/vports`, wish), this.#api.list(`${this.#path}/containers`, wish)]);
        vports.push(...ports.items);
        containers.push(...owners.items);
        this.#total = ports.count;
        this.#isPartial = vports.length < ports.count;
        if (!this.#isPartial) break;
      }
    } catch (failure) {
      this.#meanwhile.end([]);
      throw failure;
    }
    return { ...this.#meanwhile.end(vports), containers };
  }

  /** Brings one vPort into the table, wherever it is in the list; returns the node of its row, or null if it is gone. */
  async find(id) {
    if (!this.#rows.has(id)) {
      const vport = await this.#api.get(`vports/${id}`);
      if (!vport || this.#isEnded) return null;
      this.#row(vport);
      await this.#complete(id);
      this.flush();
    }
    return this.#rows.get(id)?.node ?? null;
  }

  vport(type, vport) {
    if (type === "DELETE") {
      this.#meanwhile.went(vport.ID);
      this.#drop(vport.ID);
    } else if (this.#rows.has(vport.ID)) {
      this.#row(vport).staleGroups();
    } else if (type === "CREATE") {
      this.#meanwhile.came(vport.ID);
      if (this.#rows.size < BY_EVENTS) this.#row(vport);
      else this.#isPartial = true;
    }
    if (this.#isPartial && type !== "UPDATE") this.#recount.ask();
  }

  interface(type, port) {
    const row = this.#rows.get(port.VPortID);
    if (!row) return;
    row.interface = type === "DELETE" ? null : port;
    if (type === "DELETE") row.container = null;
    else if (row.container?.ID !== port.parentID) row.container = this.recent.get(port.parentID) ?? null;
    if (row.interface && !row.container) this.#complete(port.VPortID);
    this.#changed(row);
  }

  container(type, container) {
    if (type === "DELETE") return; // its vPorts and interfaces have events of their own
    for (const port of container.interfaces ?? []) {
      const row = this.#rows.get(port.VPortID);
      if (!row) continue;
      row.interface = port;
      row.container = container;
      this.#changed(row);
    }
  }

  group(type, group) {
    for (const row of this.#rows.values()) {
      if (type !== "CREATE" && row.groups.some((one) => one.ID === group.ID)) row.staleGroups();
    }
    this.#hasGroups = true;
  }

  /** Shows what changed since the last time: once for a whole batch of events. */
  flush() {
    if (this.#isEnded) return;
    if (this.#isDirty) {
      this.#isDirty = false;
      const rows = [...this.#rows.values()].sort((one, other) => (one.rank === other.rank ? order(one.name, other.name) : one.rank - other.rank));
      arrange(this.body, rows.map((row) => row.node));
    }
    const shown = this.#rows.size;
    const total = this.#isPartial ? Math.max(this.#total, shown) : shown;
    this.table.hidden = shown === 0;
    this.more.hidden = shown >= total;
    this.note.hidden = total > 0 && shown >= total;
    setText(this.text, total ? `${number(shown)} of ${number(total)} vPorts.` : "No vPorts.");
  }

  async #more() {
    this.#pages += 1;
    await this.load(true);
    if (this.more.hidden) this.body.lastElementChild?.focus();
  }

  async #complete(id) {
    const [container] = (await this.#api.list(`vports/${id}/containers`)).items;
    if (container && !this.#isEnded) this.container("UPDATE", container);
    this.flush();
  }

  #row(vport) {
    let row = this.#rows.get(vport.ID);
    if (!row) {
      row = new Row(this.#api, vport, this.#hasGroups);
      this.#rows.set(vport.ID, row);
    }
    row.vport = vport;
    this.#changed(row);
    return row;
  }

  #changed(row) {
    row.draw();
    this.#isDirty = true;
  }

  #drop(id) {
    this.#rows.get(id)?.end(this.heir);
    this.#rows.delete(id);
  }
}
