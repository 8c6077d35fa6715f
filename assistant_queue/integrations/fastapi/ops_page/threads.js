// The threads that are not idle, by state, with their age.

import { read } from "./api.js";
import { h } from "./dom.js";
import { count, due, many } from "./format.js";
import { badge, button, chips, empty, heading, threadHref } from "./parts.js";

const STATES = ["all", "pending", "active", "retrying", "held", "parked", "paused", "taken_over", "stuck"];
const MEANING = {
  pending: "Messages wait for their window, or for a worker.",
  active: "A worker has a batch of them.",
  retrying: "A batch waits to be tried again.",
  held: "It is not known whether the provider has the batch; it is asked first.",
  parked: "A batch waits without a worker, for a decision, an answer from outside, or a run in the background.",
  taken_over: "A person answers instead of the model.",
  paused: "Messages are taken, nothing is answered.",
  stuck: "Due for more than 5 seconds.",
};

export async function load({ query }) {
  const state = STATES.includes(query.get("state")) ? query.get("state") : "all";
  const after = Number(query.get("after")) || 0;
  return { state, after, ...(await read("threads", { state: state === "all" ? null : state, after })) };
}

export function draw({ state, after, threads, next, read: seen, total }, { now, mayChange }) {
  const here = (start) => `#/threads?${new URLSearchParams({ ...(state !== "all" && { state }), ...(start && { after: start }) })}`;
  return [
    heading("Threads", h("p", { class: "soft" }, state === "all" ? many(total, "open thread") : MEANING[state])),
    chips("States", STATES.map((name) => ({ name, href: name === "all" ? "#/threads" : `#/threads?state=${name}` })), state),
    threads.length
      ? h(
          "table",
          { class: "list" },
          h("thead", {}, h("tr", {}, ["Thread", "State", "Due", "Waiting", "Attempts", ""].map((name) => h("th", { scope: "col", class: ["Waiting", "Attempts"].includes(name) ? "number" : null }, name || h("span", { class: "unseen" }, "Change"))))),
          h("tbody", {}, threads.map((one) => row(one, now, mayChange))),
        )
      : empty("No thread here", seen ? `${many(seen, "thread was", "threads were")} read, and none is ${state}.` : "Idle threads are not listed: search for one by its id."),
    h(
      "div",
      { class: "pages" },
      after > 0 && h("a", { href: here(0), class: "button" }, "First page"),
      next !== null && h("a", { href: here(next), class: "button" }, threads.length ? "Next page" : `Read on after ${count(after + seen)} threads`),
    ),
  ];
}

function row(one, now, mayChange) {
  const error = one.delivery_error;
  return h(
    "tr",
    { "data-key": one.thread_id },
    h("td", { class: "main-cell" }, h("a", { href: threadHref(one.thread_id), class: "row-link id" }, one.thread_id)),
    h("td", {}, one.paused && badge("paused"), one.taken_over_by && [" ", badge(`answered by ${one.taken_over_by}`, "warn")], " ", one.state !== "idle" && badge(one.state), one.delivering_count > 0 && [" ", badge(error ? "delivery retried" : "delivering", error ? "warn" : "busy")]),
    h("td", {}, h("span", { class: "unseen-wide" }, "Due "), due(one.due_at, now)),
    h("td", { class: "number" }, h("span", { class: "unseen-wide" }, "Waiting "), count(one.pending_count)),
    h("td", { class: one.attempts ? "number" : "number is-none" }, h("span", { class: "unseen-wide" }, "Attempts "), count(one.attempts)),
    h("td", { class: "row-buttons" }, mayChange && one.paused && button("Resume", { operation: "resume", thread_id: one.thread_id }, { kind: "small", "aria-label": `Resume ${one.thread_id}` })),
  );
}
