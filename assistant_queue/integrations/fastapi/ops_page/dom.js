// Elements from plain calls, and a page that is drawn anew without losing focus, scroll or selection.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const keyOf = (node) => node.dataset?.key ?? null;

// Make `old` like `fresh`. Nodes stay if they are of the same kind, and with a key if it is the same.
export function morph(old, fresh) {
  const kept = new Map();
  for (const child of old.children) if (keyOf(child) !== null) kept.set(keyOf(child), child);
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.nodeType === 1 ? keyOf(next) : null;
    let match = key === null ? place : kept.get(key);
    if (match && !isAlike(match, next)) match = null;
    if (!match) {
      old.insertBefore(next, place);
      continue;
    }
    if (match === place) place = place.nextSibling;
    else old.insertBefore(match, place);
    if (next.nodeType === 1) update(match, next);
    else if (match.nodeValue !== next.nodeValue) match.nodeValue = next.nodeValue;
  }
  while (place) {
    const after = place.nextSibling;
    place.remove();
    place = after;
  }
}

const isAlike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.nodeType !== 1 || keyOf(one) === keyOf(other));

function update(old, fresh) {
  const keepsOwn = old.nodeName === "INPUT" || old.nodeName === "SELECT" || old.nodeName === "TEXTAREA";
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !(old.nodeName === "DETAILS" && name === "open")) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.nodeName === "DETAILS" && name === "open") continue; // open or closed by the reader
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (keepsOwn) {
    if (old.type === "checkbox") old.checked = fresh.hasAttribute("checked");
    if (old.nodeName === "INPUT") return;
  }
  morph(old, fresh);
}
