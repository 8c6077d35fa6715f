// Draws what markdown.js makes of an answer: elements and text nodes, made one by one. Nothing is
// ever parsed as markup. Blocks that did not change stay the elements they were, so that a
// selection, the focus and a scrolled block of code survive each piece of a streamed answer.

import { blocksOf } from "./markdown.js";

const COPIED_MS = 2000;
const NO_LANGUAGE = "Code";

export class RichText {
  constructor() {
    this.node = element("div", null, "text");
    this.drawn = []; // {key, nodes}
  }

  update(texts, isLive) {
    const blocks = texts.flatMap((text, place) =>
      text ? blocksOf(text, isLive && place === texts.length - 1) : [],
    );
    let same = 0;
    while (same < blocks.length && blocks[same].key === this.drawn[same]?.key) same += 1;
    same += this.growCode(blocks[same], this.drawn[same]);
    for (const { nodes } of this.drawn.splice(same)) for (const node of nodes) node.remove();
    for (const block of blocks.slice(same)) {
      const nodes = block.draw().map(drawn);
      this.node.append(...nodes);
      this.drawn.push({ key: block.key, isCode: block.isCode, nodes });
    }
  }

  // A block of code that grows stays the element that it is: 1 if it could.
  growCode(block, known) {
    if (!block?.isCode || !known?.isCode) return 0;
    const [tree] = block.draw();
    const [node] = known.nodes;
    if (node.querySelector(".language").textContent !== (tree.language || NO_LANGUAGE)) return 0;
    node.querySelector("pre code").textContent = tree.code;
    known.key = block.key;
    return 1;
  }

  get isEmpty() {
    return this.drawn.length === 0;
  }
}

function drawn(tree) {
  if (typeof tree === "string") return document.createTextNode(tree);
  if (tree.tag === "pre") return codeBlock(tree);
  const made = element(tree.tag);
  for (const [name, value] of Object.entries(tree.attrs)) made.setAttribute(name, value);
  made.append(...tree.children.map(drawn));
  return tree.tag === "table" ? scrolling(made, "Table", "table") : made;
}

function codeBlock({ language, code }) {
  const block = element("div", null, "code");
  const head = element("div", null, "code-head");
  const body = element("pre");
  const text = element("code", code);
  body.append(text);
  head.append(
    element("span", language || NO_LANGUAGE, "language"),
    copyButton(() => text.textContent, "Copy the code"),
  );
  body.setAttribute("aria-label", language ? `Code, ${language}` : NO_LANGUAGE);
  body.setAttribute("role", "group");
  body.tabIndex = 0;
  block.append(head, body);
  return block;
}

function scrolling(node, label, className) {
  const around = element("div", null, className);
  around.setAttribute("role", "group");
  around.setAttribute("aria-label", label);
  around.tabIndex = 0;
  around.append(node);
  return around;
}

export function copyButton(text, label) {
  const button = element("button", "Copy", "copy");
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", async () => {
    const words = (await copyText(text())) ? "Copied" : "Not copied";
    button.textContent = words;
    button.setAttribute("aria-label", words);
    setTimeout(() => {
      button.textContent = "Copy";
      button.setAttribute("aria-label", label);
    }, COPIED_MS);
  });
  return button;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // a page without https has no clipboard
  }
}

function copyBySelection(text) {
  const before = document.activeElement;
  const field = element("textarea", null, "unseen");
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  before?.focus?.();
  return isCopied;
}

export function element(name, text = null, className = null) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  if (className !== null) made.className = className;
  return made;
}
