// Pieces that several views share.

import { h } from "./dom.js";
import { words } from "./format.js";

export const threadHref = (id) => `#/threads/${encodeURIComponent(id)}`;
export const threadLink = (id) => h("a", { href: threadHref(id), class: "id" }, id);

const TONES = { active: "busy", retrying: "warn", held: "warn", paused: "warn", stuck: "bad", failed: "bad", parked: "warn", undelivered: "bad", completed: "good", delivered: "good", stopped: "quiet" };

export const badge = (word, tone = TONES[word] ?? "quiet") => h("span", { class: `badge badge-${tone}` }, words(word));

export const button = (label, wish, { kind = "", disabled = false, ...more } = {}) =>
  h("button", { type: "button", class: `button ${kind}`, "data-do": JSON.stringify(wish), disabled, ...more }, label);

export const empty = (title, text) => h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), text && h("p", {}, text));

export const fact = (name, ...value) => h("div", { class: "fact" }, h("dt", {}, name), h("dd", {}, ...value));

export const heading = (title, ...more) => h("div", { class: "heading" }, h("h1", {}, title), ...more);

// Tabs of one view: links, one of them current.
export const chips = (label, list, current) =>
  h(
    "nav",
    { class: "chips", "aria-label": label },
    list.map(({ name, href, count }) => h("a", { href, class: "chip", "aria-current": name === current ? "true" : null }, words(name), count !== undefined && count !== null && h("b", {}, count))),
  );
