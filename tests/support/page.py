"""What a test does with the simulator's page and reads from it, as a person with a
keyboard would.
"""

import json

_TWIG = """((names) => { let place = document.getElementById("tree");
  for (const name of names) {
    place = [...place.querySelectorAll("li")]
      .find((one) => one.querySelector(".name").textContent === name);
    if (!place) return null;
  }
  return place; })(%s)"""
_ROWS = """[...document.querySelectorAll("tr[data-vport]")].map((row) => Object.fromEntries(
  [...row.cells].map((cell) => [
    cell.dataset.label,
    [...cell.children].map((one) => one.textContent).join(" ")])))"""
# The lowest contrast of a text to the ground behind it, by WCAG's formula; inks and grounds are
# opaque on this page.
_CONTRAST = """(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number)
      .map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const ground = (node) => { for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)") return colour; } return "rgb(255, 255, 255)"; };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) { const node = texts.currentNode.parentElement;
    if (texts.currentNode.data.trim() && node.checkVisibility()
        && !node.closest("script, noscript, .unseen"))
      found.push([
        ratio(getComputedStyle(node).color, ground(node)),
        node.outerHTML.slice(0, 120)]); }
  for (const node of document.querySelectorAll("input")) if (node.checkVisibility()) {
    found.push([ratio(getComputedStyle(node, "::placeholder").color, ground(node)), "placeholder"]);
    if (node.type !== "checkbox") found.push([
      1.5 * ratio(getComputedStyle(node).borderTopColor, ground(node.parentElement)),
      "edge of " + node.name]); }
  for (const node of document.querySelectorAll(".bar .used")) if (node.checkVisibility())
    found.push([
      1.5 * ratio(getComputedStyle(node).backgroundColor, ground(node.parentElement)), "bar"]);
  return found.sort((one, other) => one[0] - other[0]); })()"""


def log_in(tab, user="csproot", password="csproot", organization="csp"):
    """Log in by the form, from the field that has the focus."""
    tab.wait("!document.getElementById('login').hidden && document.activeElement.name === 'user'")
    for text in (user, password, organization):
        tab.write(text)
        tab.press("Tab")
    tab.press("Enter")
    tab.wait("document.activeElement.classList.contains('twig')", what="the tree has the focus")


def state(tab):
    """What the page says of its connection."""
    return tab.js("document.getElementById('connection').textContent")


def place(*names):
    """The expression of the list item that the names lead to, from the root or from anywhere."""
    return _TWIG % json.dumps(names)


def open_way(tab, *names):
    """Open branch after branch down to the last one."""
    for depth in range(1, len(names) + 1):
        twig = f"{place(*names[:depth])}?.querySelector('.twig')"
        tab.wait(twig + " !== undefined && " + twig + " !== null", what=f"{names[:depth]} is there")
        tab.js(f"{twig}.getAttribute('aria-expanded') === 'true' || {twig}.click()")


def branches(tab):
    """The names of all branches that are there, in their order."""
    return tab.js(
        "[...document.querySelectorAll('#tree .twig .name')].map((one) => one.textContent)"
    )


def rows(tab):
    """All rows of vPorts, as texts by column."""
    return tab.js(_ROWS)


def usage(tab, *names):
    """What the bar of a network says: its label, and how wide its used part is."""
    return tab.js(f"""(() => {{ const bar = {place(*names)}.querySelector(".bar");
      return [
        bar.getAttribute("aria-label"),
        bar.querySelector(".used").getBoundingClientRect().width]; }})()""")


def contrasts(tab):
    """The contrasts of what can be seen, the lowest first; what is no text counts one and a half
    times, its limit is 3.
    """
    return tab.js(_CONTRAST)


def search(tab, text):
    """Search, and return what is found: one text a hit."""
    tab.js(
        "document.getElementById('query').value = ''; "
        "document.getElementById('query').focus(); "
        "document.getElementById('found').textContent = ''"
    )
    tab.write(text)
    tab.wait(
        "document.getElementById('found').textContent !== ''", what=f"the search for {text!r} ends"
    )
    return tab.js("[...document.querySelectorAll('.hit')].map((one) => one.textContent)")
