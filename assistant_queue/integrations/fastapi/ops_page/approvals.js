// Tool calls that wait for an answer: approved, or denied with a reason that the model reads.

import { read } from "./api.js";
import { h } from "./dom.js";
import { ago, due } from "./format.js";
import { button, empty, fact, heading, threadLink } from "./parts.js";

export const load = ({ query }) => read("approvals", { after: query.get("after") });

export function draw({ approvals, next }, { now, mayChange }) {
  return [
    heading("Approvals", h("p", { class: "soft" }, "Tool calls that wait for an answer from outside, the oldest first.")),
    approvals.length ? h("ul", { class: "cards", "aria-label": "Approvals" }, approvals.map((one) => callCard(one, { now, mayChange }))) : empty("No call waits for an answer"),
    h("div", { class: "pages" }, next && h("a", { href: `#/approvals?after=${encodeURIComponent(next)}`, class: "button" }, "Next page")),
  ];
}

export function callCard(one, { now, mayChange, isInThread = false }) {
  const wish = (operation, more) => ({ operation, thread_id: one.thread_id, call_id: one.call_id, ...more });
  return h(
    "li",
    { class: "card", "data-key": one.call_id },
    h("div", { class: "card-head" }, h("b", {}, one.question ?? (one.kind === "answer" ? `${one.tool} is answered later` : `Call ${one.tool}?`)), !isInThread && threadLink(one.thread_id), h("span", { class: "soft numbers" }, `asked ${ago(one.requested_at, now)}, expires ${due(one.expires_at, now)}`)),
    h("dl", { class: "facts" }, fact("Tool", h("code", {}, one.tool)), fact("Arguments", h("code", {}, JSON.stringify(one.arguments))), one.authors.length > 0 && fact("For", one.authors.join(", ")), fact("Call", h("code", {}, one.call_id))),
    mayChange &&
      h(
        "div",
        { class: "actions" },
        one.kind === "approval" && button("Approve", wish("approve_call"), { kind: "small primary", "aria-label": `Approve ${one.call_id}` }),
        button("Deny", wish("deny_call", { ask: { title: "Deny this call?", label: "Reason, which the model reads", yes: "Deny" } }), { kind: "small bad", "aria-label": `Deny ${one.call_id}` }),
      ),
  );
}
