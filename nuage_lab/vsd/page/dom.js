// Builds elements. A value becomes a text node with its own writing direction; markup cannot get in.

/** Makes an element. Attributes that are false or null are left out, true is an empty one; children are nodes or texts. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A value that came from the VSD, as text. */
export function value(text, kind = "") {
  return element("bdi", { class: kind ? `value ${kind}` : "value" }, text === null || text === undefined ? "" : String(text));
}

const LONG = /([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b([0-9a-f]{12})[0-9a-f]{20,}\b/gi;

/** A value with shortened IDs, which may wrap at the slashes of a path; its title has the whole text. */
export function shortened(text, kind) {
  const short = String(text).replace(LONG, "$1$2…");
  const made = value("", kind);
  short.split(/(?=[/?&])/).forEach((word, at) => made.append(...(at ? [element("wbr"), word] : [word])));
  if (short !== text) made.title = text;
  return made;
}

/** A button that only runs code. */
export function button(label, work, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", work);
  return made;
}

/** Puts nodes in an order below a parent; moves only those in a wrong place. */
export function arrange(parent, nodes) {
  let place = parent.firstElementChild;
  for (const node of nodes) {
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
}

/** Removes a node; if the focus is in it, `heir` gets the focus. */
export function remove(node, heir) {
  if (node.contains(document.activeElement)) heir?.focus();
  node.remove();
}

/** Sets the text of a node only if it differs, so that nothing is read out or painted twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.whenSeen?.(entry.isIntersecting);
}, { rootMargin: "200px" });

/** Calls `react(isSeen)` whenever an element enters or leaves the window. */
export function watch(node, react) {
  node.whenSeen = react;
  seen.observe(node);
}

/** Ends what `watch` began. */
export function unwatch(node) {
  seen.unobserve(node);
  node.whenSeen = null;
}

export const order = new Intl.Collator("en", { numeric: true }).compare;
export const number = new Intl.NumberFormat("en").format;
export const clock = (time) => new Date(time).toLocaleTimeString("en-GB");
