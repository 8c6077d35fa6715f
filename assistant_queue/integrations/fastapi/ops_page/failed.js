// The failed list in three views: failed, parked and undelivered; one by one, and many at once.

import { read } from "./api.js";
import { h } from "./dom.js";
import { ago, count, many, words } from "./format.js";
import { badge, button, chips, empty, fact, heading, threadLink } from "./parts.js";

export const KINDS = {
  failed: { title: "Failed", reasons: ["attempts", "refused", "worker_deaths", "unknown_thread", "not_configured", "corrupt"], text: "Batches that were given up. Retry them once the cause is removed." },
  parked: { title: "Parked", reasons: ["parked"], text: "The provider may have accepted these, and cannot be asked. A retry may answer twice." },
  undelivered: { title: "Undelivered", reasons: ["undelivered", "delivery_unknown"], text: "The answer is there, the platform did not take it. A retry delivers it again, without asking the model." },
};
const MEANING = {
  attempts: "every attempt failed",
  refused: "the provider refused, and no attempt can help",
  worker_deaths: "workers died over it",
  unknown_thread: "the provider does not know the thread",
  not_configured: "no provider is configured",
  corrupt: "what was stored cannot be read",
  parked: "it may have been accepted",
  undelivered: "the platform refused, or did not answer",
  delivery_unknown: "the platform may have it",
};

export const selected = new Set();

export async function load({ view, query }) {
  const reason = KINDS[view].reasons.includes(query.get("reason")) ? query.get("reason") : null;
  const thread = query.get("thread");
  const after = query.get("after");
  const found = await read("failed", { reason: reason ? [reason] : KINDS[view].reasons, thread_id: thread, after });
  for (const id of selected) if (!found.failed.some((one) => one.batch_id === id)) selected.delete(id);
  return { kind: view, reason, thread, after, ...found };
}

export function draw({ kind, reason, thread, after, failed, next, read: seen, counts }, { now, mayChange }) {
  const { title, reasons, text } = KINDS[kind];
  const wanted = reason ? [reason] : reasons;
  const of = (name) => counts?.by_reason[name] ?? 0;
  const total = wanted.reduce((sum, name) => sum + of(name), 0);
  const isCountedAll = !counts || counts.counted >= counts.total;
  const chosen = failed.filter((one) => selected.has(one.batch_id));
  const here = (more) => `#/${kind}?${new URLSearchParams({ ...(reason && { reason }), ...(thread && { thread }), ...more })}`;
  return [
    heading(title, h("p", { class: "soft" }, text)),
    reasons.length > 1 && chips("Reasons", [{ name: "all", href: `#/${kind}`, count: counts ? count(reasons.reduce((sum, name) => sum + of(name), 0)) : null }, ...reasons.filter((name) => of(name) || name === reason).map((name) => ({ name, href: `#/${kind}?reason=${name}`, count: counts ? count(of(name)) : null }))], reason ?? "all"),
    thread && h("p", {}, "Of thread ", threadLink(thread), ". ", h("a", { href: `#/${kind}` }, "Show those of all threads")),
    counts && !isCountedAll && h("p", { class: "soft" }, `Counted are the newest ${count(counts.counted)} of ${count(counts.total)}.`),
    mayChange && failed.length > 0 && bulk({ kind, wanted, thread, total, isCountedAll, chosen, failed, reason }),
    failed.length
      ? h("ul", { class: "cards", "aria-label": title }, failed.map((one) => failedRow(one, { now, mayChange, isChosen: selected.has(one.batch_id) })))
      : empty(`Nothing is ${kind} here`, seen && next ? `${many(seen, "batch was", "batches were")} read for this page.` : null),
    h("div", { class: "pages" }, after && h("a", { href: here({}), class: "button" }, "First page"), next && h("a", { href: here({ after: next }), class: "button" }, failed.length ? "Next page" : "Read on")),
  ];
}

function bulk({ kind, wanted, thread, total, isCountedAll, chosen, failed, reason }) {
  const which = chosen.length ? { batch_ids: chosen.map((one) => one.batch_id) } : { reasons: wanted, ...(thread && { thread_id: thread }) };
  const isAll = !chosen.length;
  const number = isAll ? (thread ? null : total) : chosen.length;
  const what = number === null ? "all of this thread" : `${isAll && !isCountedAll ? "at least " : ""}${many(number, "batch", "batches")}`;
  const limit = isAll ? ` Those are all ${reason ? `with the reason “${words(reason)}”` : kind === "undelivered" ? "undelivered replies" : `${kind} batches`}${thread ? " of this thread" : ", on every page"}.` : "";
  const retryText = { failed: "They go back to the head of their threads and are sent to the model again.", parked: "The provider may have answered some of them already: they may be answered twice.", undelivered: "They are delivered again, without asking the model." }[kind];
  return h(
    "div",
    { class: "bulk", role: "group", "aria-label": "Retry or discard many" },
    h("label", { class: "check" }, h("input", { type: "checkbox", "data-choose": "all", checked: chosen.length === failed.length }), h("span", {}, chosen.length ? `${count(chosen.length)} chosen` : "Choose all on this page")),
    button(isAll ? "Retry all" : `Retry ${count(number)}`, { operation: "retry_failed", ...which, confirm: { title: `Retry ${what}?`, text: retryText + limit, yes: `Retry ${what}` } }, { kind: "primary" }),
    button(isAll ? "Discard all" : `Discard ${count(number)}`, { operation: "discard_failed", ...which, confirm: { title: `Discard ${what}?`, text: `${kind === "undelivered" ? "The replies are" : "Their messages are"} never sent; this cannot be undone.${limit}`, yes: `Discard ${what}`, isBad: true } }, { kind: "bad" }),
  );
}

export function failedRow(one, { now, mayChange, isChosen = false, isInThread = false }) {
  const wish = (operation, confirm) => ({ operation, batch_ids: [one.batch_id], ...(one.thread_id && { thread_id: one.thread_id }), confirm });
  return h(
    "li",
    { class: "card", "data-key": one.batch_id },
    h(
      "div",
      { class: "card-head" },
      mayChange && !isInThread && h("input", { type: "checkbox", "data-choose": one.batch_id, checked: isChosen, "aria-label": `Choose the batch of ${one.thread_id}` }),
      !isInThread && h("a", { class: "row-link id", href: `#/threads/${encodeURIComponent(one.thread_id)}` }, one.thread_id),
      badge(one.reason, "bad"),
      h("span", { class: "soft numbers" }, `${ago(one.failed_at, now)}, ${many(one.message_ids.length, "message")}${one.attempts ? `, ${many(one.attempts, "attempt")}` : ""}`),
    ),
    h("p", { class: "error" }, h("code", {}, one.error.code), " ", one.error.message),
    h("dl", { class: "facts" }, fact("Why", MEANING[one.reason] ?? words(one.reason)), fact("Batch", h("code", {}, one.batch_id)), one.known_run_id && fact("Run", h("code", {}, one.known_run_id))),
    mayChange &&
      h(
        "div",
        { class: "actions" },
        button("Retry", wish("retry_failed", one.reason === "parked" ? { title: "Retry a parked batch?", text: "The provider may have answered it already: it may be answered twice.", yes: "Retry" } : undefined), { kind: "small", "aria-label": `Retry the batch of ${one.thread_id}` }),
        button("Discard", wish("discard_failed", { title: "Discard this batch?", text: "This cannot be undone.", yes: "Discard", isBad: true }), { kind: "small bad", "aria-label": `Discard the batch of ${one.thread_id}` }),
      ),
  );
}
