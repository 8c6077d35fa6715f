// The first view: what needs a person, the counts, and charts of the kept history.

import { chart } from "./charts.js";
import { read } from "./api.js";
import { h } from "./dom.js";
import { compact, count, many, ms, span } from "./format.js";
import { button, chips, heading } from "./parts.js";

const RANGES = { "1 h": 60, "6 h": 360, "24 h": 1440 };
const HISTORY_EVERY = 15000;
const STUCK_S = 5;

let kept = { minutes: 0, at: 0, spans: [] };

export async function load({ query }, shared) {
  const minutes = RANGES[query.get("range")] ?? 60;
  if (kept.minutes !== minutes || Date.now() - kept.at > HISTORY_EVERY) {
    kept = { minutes, at: Date.now(), spans: (await read("history", { minutes })).spans };
  }
  return { spans: kept.spans, minutes };
}

export function draw({ spans, minutes }, shared) {
  const { overview } = shared;
  const { status } = overview;
  const range = Object.keys(RANGES).find((name) => RANGES[name] === minutes);
  return [
    heading(
      "Overview",
      shared.mayChange &&
        (status.paused
          ? button("Resume the queue", { operation: "resume" }, { kind: "primary" })
          : button("Pause the queue", { operation: "pause", confirm: { title: "Pause the whole queue?", text: "Messages are still taken, and none is answered until the queue is resumed. Batches under way run to their end.", yes: "Pause the queue" } })),
    ),
    needs(overview),
    h(
      "dl",
      { class: "tiles" },
      tile("Waiting", compact(status.waiting_count), "due, not claimed yet", "#/threads?state=pending"),
      tile("Being answered", compact(status.active_count), "messages of batches under way", "#/threads?state=active"),
      tile("Collecting", compact(status.delayed_count), "in a window or a back-off", "#/threads?state=retrying"),
      tile("Oldest due", span(overview.oldest_due_s), many(overview.thread_count, "open thread"), "#/threads", overview.oldest_due_s > STUCK_S),
      tile("Failed", compact(status.failed_count), "messages", "#/failed", status.failed_count > 0),
      tile("Undelivered", compact(status.undelivered_count), "replies", "#/undelivered", status.undelivered_count > 0),
      tile("Workers", overview.sees_workers ? count(overview.workers.length) : "–", workersText(overview), "#/workers", overview.sees_workers && !overview.workers.length),
      tile("Answered", compact(overview.messages.answered ?? 0), `${compact(overview.runs_saved)} runs saved`, "#/"),
    ),
    h(
      "section",
      { class: "charts-part", "aria-labelledby": "charts-title" },
      h(
        "div",
        { class: "subheading" },
        h("h2", { id: "charts-title" }, "History"),
        chips("Range of the charts", Object.keys(RANGES).map((name) => ({ name, href: name === "1 h" ? "#/" : `#/?range=${encodeURIComponent(name)}` })), range),
      ),
      spans.length ? h("div", { class: "charts" }, charts(spans, minutes)) : h("p", { class: "soft" }, "A sample is taken every minute, by the workers and while this page is open. The charts begin with the second one."),
    ),
  ];
}

function workersText({ workers, sees_workers: sees }) {
  if (!sees) return "this service may not read them";
  const slots = workers.reduce((sum, one) => sum + one.concurrency, 0);
  const busy = workers.reduce((sum, one) => sum + one.running, 0);
  return workers.length ? `${count(busy)} of ${many(slots, "slot")} busy` : "none is registered";
}

const tile = (name, value, text, href, isBad = false) =>
  h("div", { class: isBad ? "tile is-bad" : "tile" }, h("dt", {}, h("a", { href, class: "row-link" }, name)), h("dd", { class: "tile-value" }, value), h("dd", { class: "tile-text" }, text));

// What a person has to look at, the worst first.
export function needsOf({ status, workers, sees_workers: sees, oldest_due_s: oldest }) {
  const found = [];
  if (status.paused) found.push(["The queue is paused", "Messages are taken and none is answered.", "#/"]);
  if (sees && !workers.length) found.push(["No worker is registered", "Messages wait until one is started.", "#/workers"]);
  if (!status.paused && oldest > STUCK_S) found.push([`A thread has been due for ${span(oldest)}`, "Workers are busy, too few, or stuck.", "#/threads?state=stuck"]);
  if (status.failed_count) found.push([`${many(status.failed_count, "message")} failed`, "Retry or discard them.", "#/failed"]);
  if (status.undelivered_count) found.push([many(status.undelivered_count, "reply was", "replies were").replace(/(was|were)$/, "$1 not delivered"), "Deliver again, or discard.", "#/undelivered"]);
  return found;
}

function needs(overview) {
  const found = needsOf(overview);
  if (!found.length) return h("p", { class: "calm" }, h("span", { class: "dot good", "aria-hidden": "true" }), "Nothing needs you.");
  return h(
    "ul",
    { class: "needs", "aria-label": "What needs you" },
    found.map(([title, text, href]) => h("li", {}, h("a", { href, class: "row-link" }, title), h("span", {}, text))),
  );
}

function charts(spans, minutes) {
  const times = spans.map((one) => one.ended_at);
  const from = ms(times.at(-1)) - minutes * 60000;
  const rate = (name, kind) => spans.map((one) => perMinute(one, one[name]?.[kind] ?? 0));
  const values = (pick) => spans.map((one) => pick(one) ?? null);
  const whole = (value) => compact(Math.round(value * 10) / 10);
  const make = (id, title, unit, series, format) => chart({ id, title, unit, times, from, series, format });
  const codes = new Map();
  for (const one of spans) for (const [code, number] of Object.entries(one.errors)) codes.set(code, (codes.get(code) ?? 0) + number);
  const worst = [...codes].sort((a, b) => b[1] - a[1]).slice(0, 5);
  return [
    make("rates", "Messages", "a minute", [
      { name: "in", kind: "line", tone: "quiet", values: rate("messages", "queued") },
      { name: "answered", kind: "area", tone: "accent", values: rate("messages", "answered") },
    ], whole),
    make("answer", "Until answered", "", [
      { name: "median", kind: "area", tone: "accent", values: values((one) => one.p50.end_to_end) },
      { name: "95 %", kind: "line", tone: "quiet", values: values((one) => one.p95.end_to_end) },
    ], span),
    make("first", "Until the first text", "", [
      { name: "median", kind: "area", tone: "accent", values: values((one) => one.p50.first_token) },
      { name: "95 %", kind: "line", tone: "quiet", values: values((one) => one.p95.first_token) },
    ], span),
    make("backlog", "Waiting messages", "", [{ name: "now", kind: "area", tone: "accent", values: values((one) => (one.status.waiting ?? 0) + (one.status.delayed ?? 0)) }], whole),
    make("oldest", "Oldest due", "", [{ name: "now", kind: "area", tone: "accent", values: values((one) => one.oldest_due_s) }], span),
    make("tokens", "Tokens", "a minute", [
      { name: "in", kind: "line", tone: "quiet", values: rate("tokens", "input") },
      { name: "out", kind: "area", tone: "accent", values: rate("tokens", "output") },
    ], whole),
    h(
      "div",
      { class: "errors", "data-key": "errors" },
      make("errors-chart", "Errors", "a minute", [{ name: "now", kind: "bar", tone: "bad", values: spans.map((one) => perMinute(one, Object.values(one.errors).reduce((sum, number) => sum + number, 0))) }], whole),
      worst.length > 0 && h("ul", { class: "codes" }, worst.map(([code, number]) => h("li", {}, h("code", {}, code), h("b", {}, count(number))))),
    ),
  ];
}

function perMinute(one, number) {
  const minutes = (ms(one.ended_at) - ms(one.began_at)) / 60000;
  return minutes > 0 ? number / minutes : null;
}
