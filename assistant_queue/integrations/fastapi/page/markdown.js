// Markdown of an answer as a tree of elements: {tag, attrs, children}, texts as strings. Pure.
//
// The parser is markdown-it. Only the elements, attributes and addresses listed here leave this
// module; markup in the text is text. While an answer is being written, remend closes what is
// still open at its end.

import MarkdownIt from "./vendor/markdown-it.esm.min.mjs";
import remend from "./vendor/remend.mjs";

const SAFE_LINK = /^(https?:\/\/|mailto:|tel:)/i;
const LOOKS_LIKE_AN_ADDRESS = /^(https?:\/\/|www\.)/i;
const TASK = /^\[([ xX])\]\s+/;
const LANGUAGE = /^[\w+#.-]{1,30}$/;
const PLAIN = new Set(["p", "blockquote", "ul", "ol", "li", "hr", "br"]);
const INLINE = new Set(["em", "strong", "s", "code"]);
const TABLE = new Set(["table", "thead", "tbody", "tr", "th", "td"]);
const ALIGNED = /^text-align:(left|center|right)$/;

const parser = new MarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });
parser.validateLink = (address) => SAFE_LINK.test(address.trim());
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });

const UNFINISHED = { linkMode: "text-only", htmlTags: false, katex: false, inlineKatex: false };

// The top-level blocks of a text, in order: {key, trees}. Blocks of one key look alike.
export function blocksOf(text, isLive = false) {
  const source = isLive ? remend(withoutHalfTable(text), UNFINISHED) : text;
  const env = {};
  const tokens = parser.parse(source, env);
  const ranks = headingRanks(tokens);
  const lines = source.split("\n");
  const links = env.references ? JSON.stringify(env.references) : "";
  const blocks = [];
  let start = 0;
  tokens.forEach((token, place) => {
    if (token.level > 0 || token.nesting > 0) return;
    const own = tokens.slice(start, place + 1);
    const [first, end] = own[0].map ?? [0, 0];
    const kind = own[0].type + own.map((one) => ranks.get(one) ?? "").join("");
    const key = `${kind} ${lines.slice(first, end).join("\n")} ${links}`;
    const isCode = own.length === 1 && kindOf(own[0]) === "pre";
    blocks.push({ key, isCode, draw: () => treesOf(own, ranks) });
    start = place + 1;
  });
  return blocks;
}

// Headings as screen readers count them: below the page's own, and none deeper than one below the
// heading before it.
function headingRanks(tokens) {
  const ranks = new Map();
  let before = 1;
  for (const token of tokens) {
    if (token.type !== "heading_open") continue;
    before = Math.min(Number(token.tag[1]) + 1, before + 1, 6);
    ranks.set(token, before);
  }
  return ranks;
}

// The head of a table is a line of bars until the line below it is there: it waits for that.
function withoutHalfTable(text) {
  const lines = text.split("\n");
  let first = lines.length - 1;
  while (first > 0 && lines[first - 1].startsWith("|")) first -= 1;
  const bars = lines.slice(first).filter((line) => line.startsWith("|")).length;
  const isHalf = bars > 0 && bars <= 2 && !(bars === 2 && lines[lines.length - 1] === "");
  return isHalf ? lines.slice(0, first).join("\n") : text;
}

// What is read aloud: the text without its marks.
export function spoken(text) {
  const pieces = [];
  const walk = (tree) => {
    if (typeof tree === "string") pieces.push(tree);
    else if (tree.tag === "pre") pieces.push(tree.code, " ");
    else {
      tree.children.forEach(walk);
      if (!INLINE.has(tree.tag) && tree.tag !== "a") pieces.push(" ");
    }
  };
  for (const block of blocksOf(text)) block.draw().forEach(walk);
  return pieces.join("").replace(/\s+/g, " ").trim();
}

const kindOf = (token) => (token.type === "fence" || token.type === "code_block" ? "pre" : token.tag);

// --- tokens to trees ----------------------------------------------------------------------------

function treesOf(tokens, ranks) {
  const root = make("root");
  const open = [root]; // a stack: however deep the text nests, nothing here recurses
  const last = () => open[open.length - 1];
  for (const token of tokens) {
    if (token.type === "inline") inlineOf(token.children, open);
    else if (kindOf(token) === "pre") last().children.push(codeOf(token));
    else if (token.nesting === 0) last().children.push(blockOf(token, ranks));
    else if (token.nesting > 0) {
      const made = token.hidden ? last() : blockOf(token, ranks);
      if (!token.hidden) last().children.push(made);
      open.push(made);
    } else open.pop();
  }
  return root.children;
}

function inlineOf(tokens, open) {
  const depth = open.length;
  const last = () => open[open.length - 1];
  const task = taskOf(tokens, open);
  tokens.forEach((token, place) => {
    if (token.type === "text" && place === 0 && task) last().children.push(token.content.replace(TASK, ""));
    else if (token.type === "text" || token.type === "text_special") last().children.push(token.content);
    else if (token.type === "softbreak" || token.type === "hardbreak") last().children.push(make("br"));
    else if (token.type === "code_inline") last().children.push(make("code", {}, [token.content]));
    else if (token.type === "image") last().children.push(pictureOf(token));
    else if (token.nesting > 0) {
      const made = token.type === "link_open" ? linkOf(token.attrGet("href")) : make(INLINE.has(token.tag) ? token.tag : "span");
      last().children.push(made);
      open.push(made);
    } else if (token.nesting < 0) {
      const ended = open.pop();
      if (ended.tag === "a") showTarget(ended);
    } else last().children.push(token.content);
  });
  open.length = depth;
}

// `- [x] done`: the item gets a box before its text.
function taskOf(tokens, open) {
  const last = open[open.length - 1];
  const item = last.tag === "p" ? open[open.length - 2] : last;
  const isFirst = item.children.length === 0 || (item.children.length === 1 && item.children[0] === last);
  const found = item.tag === "li" && isFirst && tokens[0]?.type === "text" && TASK.exec(tokens[0].content);
  if (!found) return false;
  const isDone = found[1] !== " ";
  item.attrs.class = "task";
  const mark = isDone ? { checked: "", "aria-label": "Done" } : { "aria-label": "Open" };
  last.children.push(make("input", { type: "checkbox", disabled: "", ...mark }));
  return true;
}

function blockOf(token, ranks) {
  const { tag } = token;
  if (ranks.has(token)) return make(`h${ranks.get(token)}`, { class: `h${tag[1]}` });
  if (TABLE.has(tag)) {
    const side = ALIGNED.exec(token.attrGet("style") ?? "");
    return make(tag, { ...(side ? { class: side[1] } : {}), ...(tag === "th" ? { scope: "col" } : {}) });
  }
  if (tag === "ol" && token.attrGet("start") !== null) return make("ol", { start: String(Number(token.attrGet("start"))) });
  return make(PLAIN.has(tag) ? tag : "div");
}

function codeOf(token) {
  const [word = ""] = token.info.trim().split(/\s+/);
  return { tag: "pre", attrs: {}, children: [], language: LANGUAGE.test(word) ? word : "", code: token.content.replace(/\n$/, "") };
}

// Pictures of other hosts are not loaded: loading would report the reader to them. They are links.
function pictureOf(token) {
  const words = token.content || "Picture";
  const address = token.attrGet("src") ?? "";
  return SAFE_LINK.test(address) ? { ...linkOf(address), children: [words] } : words;
}

function linkOf(href) {
  return make("a", { href, title: href, target: "_blank", rel: "noopener noreferrer nofollow" });
}

// A link that reads like one address and leads to another says where it leads.
function showTarget(link) {
  const words = link.children.filter((one) => typeof one === "string").join("").trim();
  if (!LOOKS_LIKE_AN_ADDRESS.test(words)) return;
  const shown = hostOf(words.startsWith("www.") ? `https://${words}` : words);
  const real = hostOf(link.attrs.href);
  if (shown !== real) link.children.push(` (${real || link.attrs.href})`);
}

function hostOf(address) {
  try {
    return new URL(address).host;
  } catch {
    return "";
  }
}

const make = (tag, attrs = {}, children = []) => ({ tag, attrs, children });
