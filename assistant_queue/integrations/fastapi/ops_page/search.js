// The search: ids by their keys, the rest in what is recent, and everything in the audit if there is one.

import { read } from "./api.js";
import { h } from "./dom.js";
import { ago, many, moment } from "./format.js";
import { badge, empty, heading, threadHref } from "./parts.js";

const SOURCES = { key: "by its id", recent: "in recent events", waiting: "in waiting messages", failed: "in the failed list", audit: "in the audit" };

let kept = { needle: null };

export async function load({ query }, shared) {
  const needle = (query.get("q") ?? "").trim();
  if (!needle) return { needle };
  if (kept.needle !== needle) kept = { needle, found: null, audit: null, answer: read("search", { q: needle }) };
  // The answer to an earlier search may come after this one's.
  const mine = kept;
  try {
    mine.found = await mine.answer;
  } catch (error) {
    if (kept === mine) forget();
    throw error;
  }
  if (!mine.asksAudit && shared.overview?.has_audit) {
    // Slower: it is shown when it is there.
    mine.asksAudit = true;
    read("search/audit", { q: needle }).then(
      (answer) => kept === mine && ((mine.audit = answer.hits), shared.redraw()),
      (error) => kept === mine && ((mine.audit = error), shared.redraw()),
    );
  }
  return mine;
}

export const forget = () => (kept = { needle: null });

export function draw({ needle, found, audit }, { now, overview }) {
  if (!needle) return [heading("Search"), empty("What do you look for?", "The id of a message, a thread, a batch or a run; an author; a part of a text.")];
  if (!found) return [heading("Search"), h("p", { class: "soft" }, "Searching…")];
  const fromAudit = Array.isArray(audit) ? audit.filter((one) => !found.hits.some((hit) => hit.batch_id === one.batch_id && (hit.message_id ?? null) === (one.message_id ?? null))) : [];
  return [
    heading("Search", h("p", { class: "soft" }, "“", needle, "”: ", many(found.hits.length + fromAudit.length, "hit"), found.is_cut && ", and more")),
    found.hits.length + fromAudit.length > 0
      ? h("ul", { class: "hits" }, found.hits.map((one) => hit(one, needle, now)), fromAudit.map((one) => hit({ ...one, source: "audit", at: one.ended_at, excerpt: around(one.text, needle) }, needle, now)))
      : overview?.has_audit && audit === null
        ? h("p", { class: "soft" }, "Searching the audit…")
        : empty("Nothing was found"),
    h(
      "p",
      { class: "soft searched" },
      "Ids of messages, batches and threads were looked up exactly. ",
      `Authors, texts, replies and runs: in the newest ${many(found.events, "event")}${found.since ? ` (since ${moment(found.since)})` : ""}, ${many(found.waiting, "open thread")} and ${many(found.failed, "failed batch", "failed batches")}; parts of thread ids: in ${many(found.names, "open thread")}. `,
      audit instanceof Error ? `The audit: ${audit.message}` : overview?.has_audit ? "Everything that ended: in the audit's database." : "What is older is found by its id alone; with an audit, by its text, too.",
    ),
  ];
}

function hit(one, needle, now) {
  return h(
    "li",
    { class: "hit", "data-key": `${one.source} ${one.thread_id} ${one.message_id ?? ""} ${one.batch_id ?? ""} ${one.kind}` },
    h("div", { class: "card-head" }, badge(one.kind, "accent"), h("a", { class: "row-link id", href: threadHref(one.thread_id) }, one.thread_id), h("span", { class: "soft numbers" }, [SOURCES[one.source], one.at && ago(one.at, now)].filter(Boolean).join(", "))),
    one.excerpt && h("p", { class: "excerpt" }, one.author && h("b", {}, `${one.author}: `), marked(one.excerpt, needle)),
    h("p", { class: "soft ids" }, one.message_id && ["message ", h("code", {}, marked(one.message_id, needle)), " "], one.batch_id && ["batch ", h("code", {}, marked(one.batch_id, needle)), " "], one.run_id && ["run ", h("code", {}, marked(one.run_id, needle))]),
  );
}

function marked(text, needle) {
  const place = text.toLowerCase().indexOf(needle.toLowerCase());
  if (place < 0) return text;
  return [text.slice(0, place), h("mark", {}, text.slice(place, place + needle.length)), text.slice(place + needle.length)];
}

function around(text, needle) {
  const plain = (text ?? "").replace(/\s+/g, " ");
  const start = Math.max(plain.toLowerCase().indexOf(needle.toLowerCase()) - 50, 0);
  return `${start ? "…" : ""}${plain.slice(start, start + 160)}${plain.length > start + 160 ? "…" : ""}`;
}

