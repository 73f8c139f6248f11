// Builds elements. A value becomes a text node, in an isolate of its own writing direction; there is no way to hand markup in.

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

/** A value in which IDs are cut short, and which may be broken where a path's words begin; the whole is in its title. */
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

/** Puts nodes in an order below a parent; only what is at a wrong place is moved. */
export function arrange(parent, nodes) {
  let place = parent.firstElementChild;
  for (const node of nodes) {
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
}

/** Takes a node away; the focus, if it is in there, goes to its heir. */
export function remove(node, heir) {
  if (node.contains(document.activeElement)) heir?.focus();
  node.remove();
}

/** Writes a text only when it differs, so that nothing is read out or painted twice. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.whenSeen?.(entry.isIntersecting);
}, { rootMargin: "200px" });

/** Calls `tell(isSeen)` whenever an element comes into or goes out of the window. */
export function watch(node, tell) {
  node.whenSeen = tell;
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
