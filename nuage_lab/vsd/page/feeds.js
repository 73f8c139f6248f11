// Owns the two feeds: short lists of the newest entries, which can be held. Screen readers read them only on demand.

import { button, clock, element, number, setText, shortened, value } from "./dom.js";

const LENGTH = 150;
const SLOW_MS = 100;
const PAUSE_MS = 250; // between two pictures

/** What both feeds share: a list of bounded length, newest first, that takes in batches. */
class Feed {
  #fresh = [];
  #isPlanned = false;

  constructor(section, name) {
    this.list = element("ol", { role: "list" });
    this.summary = element("p", { class: "hint" });
    this.hold = button("Hold", () => this.#toggle(), { "aria-pressed": "false", "aria-label": `Hold the ${name}` });
    this.tools = element("p", { class: "tools" }, this.hold);
    this.box = element("div", { class: "feed", tabindex: "0", role: "region", "aria-label": `Latest ${name}` }, this.list);
    section.append(this.summary, this.tools, this.box);
  }

  get isHeld() {
    return this.hold.getAttribute("aria-pressed") === "true";
  }

  clear() {
    this.#fresh = [];
    this.list.replaceChildren();
    setText(this.summary, "");
  }

  /** Takes functions that make list items, oldest first; never makes those too old to be shown. */
  add(makers) {
    this.#fresh = this.#fresh.concat(makers).slice(-LENGTH);
    if (this.isHeld || this.#isPlanned || !this.#fresh.length) return;
    this.#isPlanned = true;
    setTimeout(() => this.#draw(), PAUSE_MS);
  }

  #draw() {
    this.#isPlanned = false;
    const items = this.#fresh.map((make) => make()).reverse();
    this.#fresh = [];
    this.list.prepend(...items);
    while (this.list.children.length > LENGTH) this.list.lastElementChild.remove();
  }

  #toggle() {
    this.hold.setAttribute("aria-pressed", String(!this.isHeld));
    this.add([]);
  }
}

export class EventFeed extends Feed {
  #count = 0;

  constructor(section) {
    super(section, "events");
  }

  clear() {
    super.clear();
    this.#count = 0;
  }

  take(events) {
    const makers = [];
    for (const event of events) {
      for (const entity of event.entities ?? []) makers.push(() => this.#item(event, entity));
    }
    this.#count += makers.length;
    this.add(makers);
    setText(this.summary, this.#count ? `${number(this.#count)} since this page was opened` : "Nothing yet since this page was opened");
  }

  #item(event, entity) {
    const name = entity.name ?? entity.userName ?? entity.IPAddress ?? entity.ID;
    const addresses = [entity.IPAddress, entity.MAC].filter(Boolean).join(" ");
    const detail = event.entityType === "containerinterface" ? addresses : entity.status ?? entity.operationalState ?? entity.address;
    return element(
      "li", {},
      element("time", {}, clock(event.eventReceivedTime)),
      element("span", { class: `verb ${event.type.toLowerCase()}` }, event.type),
      element("span", { class: "what" }, `${event.entityType} `, shortened(name), " ", detail ? value(detail, "code faint") : null),
      element("span", { class: "by" }, value(event.userName, "faint")),
    );
  }
}

export class RequestFeed extends Feed {
  #own;
  #last = [];

  constructor(section) {
    super(section, "requests");
    this.#own = element("input", { type: "checkbox" });
    this.#own.addEventListener("change", () => this.#again());
    this.tools.append(" ", element("label", {}, this.#own, " also this page's own"));
  }

  clear() {
    super.clear();
    this.#last = [];
  }

  /** Shows the feed, or why there is none. */
  allow(isAllowed) {
    this.tools.hidden = this.box.hidden = !isAllowed;
    setText(this.summary, isAllowed ? "" : "Only csproot sees the requests of all clients.");
  }

  take({ seq, requests }) {
    this.#last = this.#last.concat(requests).slice(-2 * LENGTH);
    this.#show(requests);
    const times = this.#last.filter((one) => !one.path.startsWith("/events")).map((one) => one.ms).sort((one, other) => one - other);
    const middle = times.length ? ` · median ${times[times.length >> 1].toFixed(1)} ms` : "";
    setText(this.summary, `${number(seq)} since the start${middle}`);
  }

  #again() {
    this.list.replaceChildren();
    this.#show(this.#last);
  }

  #show(requests) {
    const shown = requests.filter((one) => this.#own.checked || one.client !== "page");
    this.add(shown.map((one) => () => this.#item(one)));
  }

  #item({ time, method, path, query, filter, status, ms, user }) {
    const facts = [shortened(query ? `${path}?${query}` : path, "code"), filter && value(filter, "code faint"), user && value(user, "by faint")];
    const mood = status === null || status >= 500 ? "bad" : status >= 400 ? "warn" : "";
    return element(
      "li", {},
      element("time", {}, clock(time)),
      element("span", { class: "verb" }, method),
      element("span", { class: "what" }, ...facts.filter(Boolean).flatMap((one, at) => (at ? [" ", one] : [one]))),
      element("span", { class: `answer ${mood}` }, status === null ? "cut" : String(status)),
      element("span", { class: ms >= SLOW_MS && !path.startsWith("/events") ? "ms slow" : "ms" }, `${ms < 100 ? ms.toFixed(1) : number(Math.round(ms))} ms`),
    );
  }
}
