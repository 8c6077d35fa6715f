// What operators did: who, what, when.

import { read } from "./api.js";
import { h } from "./dom.js";
import { ago, many, moment } from "./format.js";
import { empty, heading, threadLink } from "./parts.js";

const DID = {
  pause: "paused",
  resume: "resumed",
  stop: "stopped the answer of",
  flush: "had answered at once",
  say: "said something in",
  take_over: "took over",
  hand_back: "handed back",
  cancel_message: "removed a message of",
  approve_call: "approved a call of",
  deny_call: "denied a call of",
  retry_failed: "retried",
  discard_failed: "discarded",
  answer_call: "answered a call of",
  promote_message: "promoted a message of",
  forget_thread: "forgot",
};
/** What is named where a record has no thread. */
const WITHOUT = { forget_thread: "a thread" };
/** Milliseconds after which an operation without an end is one of a process that died. */
const LONGEST = 60_000;

export const load = async () => read("operations", { limit: 200 });

export function draw({ operations }, { now }) {
  return [
    heading("Record", h("p", { class: "soft" }, "What operators did: here, with the command line, and over HTTP. The latest 1,000 are kept.")),
    operations.length ? h("ul", { class: "records" }, operations.map((one) => recordRow(one, now))) : empty("Nothing was done yet"),
  ];
}

export function recordRow(one, now, { isInThread = false } = {}) {
  const what = one.count === null ? null : many(one.count, "failed batch", "failed batches");
  return h(
    "li",
    { "data-key": `${one.at} ${one.operation} ${one.thread_id ?? ""}` },
    h("time", { class: "numbers", datetime: one.at, title: moment(one.at) }, ago(one.at, now)),
    h(
      "span",
      {},
      h("b", {}, one.by ?? "Anonymous"),
      ` ${DID[one.operation] ?? one.operation} `,
      what,
      what && one.thread_id && " of ",
      one.thread_id ? (isInThread ? "this thread" : threadLink(one.thread_id)) : what === null ? (WITHOUT[one.operation] ?? "the queue") : null,
      one.detail.reasons && h("span", { class: "soft" }, ` (${one.detail.reasons.replaceAll("_", " ")})`),
      !one.ended
        ? h("span", { class: "soft" }, now - Date.parse(one.at) < LONGEST ? ": under way" : ": it is not known how it ended")
        : one.error ? h("code", { class: "bad" }, ` ${one.error}`) : !one.done && h("span", { class: "soft" }, ": nothing to do"),
    ),
  );
}
