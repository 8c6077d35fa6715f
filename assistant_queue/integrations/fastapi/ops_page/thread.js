// One thread: why there is no answer, what waits, and what became of its batches, as pictures.

import { read } from "./api.js";
import { callCard } from "./approvals.js";
import { h } from "./dom.js";
import { ago, between, count, due, many, moment, span, words } from "./format.js";
import { badge, button, empty, fact, heading } from "./parts.js";
import { picture } from "./picture.js";
import { failedRow } from "./failed.js";
import { recordRow } from "./records.js";

const said = { thread: null, marker: null, history: null, error: null };

export async function load({ id }) {
  const view = await read(`threads/${encodeURIComponent(id)}`);
  // The provider is asked when the thread is opened, and when a batch has ended since.
  const marker = `${view.batches[0]?.batch_id ?? ""} ${view.batches.length}`;
  if (said.thread !== id || said.marker !== marker) {
    Object.assign(said, { thread: id, marker, error: null });
    await read(`threads/${encodeURIComponent(id)}/messages`).then(
      (history) => (said.history = history),
      (error) => Object.assign(said, { history: null, error: error.message }),
    );
  }
  return { id, view, history: said.history, error: said.error };
}

export function draw({ id, view, history, error }, { now, mayChange, overview }) {
  const me = overview?.operator.name ?? "operator";
  const { status, explanation, current, waiting, batches, failed, approvals, operations } = view;
  return [
    heading(
      h("span", { class: "thread-name" }, id),
      h("p", { class: "badges" }, status.paused && badge("paused"), status.taken_over_by && badge(`answered by ${status.taken_over_by}`, "warn"), badge(status.state), failed.length > 0 && badge("failed"), status.delivering_count > 0 && badge("delivering", "busy"), h("button", { type: "button", class: "link", "data-copy": "" }, "Copy link")),
    ),
    h(
      "section",
      { class: `why why-${toneOf(explanation.verdict)}`, "aria-label": "Why there is no answer yet" },
      h("p", { class: "why-title" }, capital(explanation.title || words(explanation.verdict))),
      h("p", {}, sentence(explanation.because)),
      explanation.advice && h("p", { class: "soft" }, explanation.advice),
      (explanation.since || explanation.until) && h("p", { class: "soft numbers" }, explanation.since && `Since ${moment(explanation.since)}`, explanation.since && explanation.until && ", ", explanation.until && `${explanation.since ? "until" : "Until"} ${moment(explanation.until)} (${due(explanation.until, now)})`),
    ),
    mayChange && buttons(id, status, waiting, failed, me),
    (current || waiting.length > 0) && h("section", { "aria-labelledby": "now-title" }, h("h2", { id: "now-title" }, "Now"), current && currentBatch(current, status, now), messages(id, waiting, now, mayChange)),
    approvals.length > 0 && h("section", { "aria-labelledby": "asked-title" }, h("h2", { id: "asked-title" }, "Calls that wait for an answer"), h("ul", { class: "cards" }, approvals.map((one) => callCard(one, { now, mayChange, isInThread: true })))),
    failed.length > 0 && h("section", { "aria-labelledby": "failed-title" }, h("h2", { id: "failed-title" }, "In the failed list"), h("ul", { class: "cards" }, failed.map((one) => failedRow(one, { now, mayChange, isInThread: true })))),
    h("section", { "aria-labelledby": "batches-title" }, h("h2", { id: "batches-title" }, "What became of its batches"), batches.length ? h("ul", { class: "cards" }, batches.map((one) => batchCard(one, now))) : h("p", { class: "soft" }, "No batch of it is in the journal.")),
    h("section", { "aria-labelledby": "said-title" }, h("h2", { id: "said-title" }, "Conversation"), conversation(history, error)),
    operations.length > 0 && h("section", { "aria-labelledby": "done-title" }, h("h2", { id: "done-title" }, "What operators did"), h("ul", { class: "records" }, operations.map((one) => recordRow(one, now, { isInThread: true })))),
  ];
}

function buttons(id, status, waiting, failed, me) {
  const wish = (operation, more = {}) => ({ operation, thread_id: id, ...more });
  const isRunning = Boolean(status.batch_id);
  const isWaiting = waiting.some((one) => !one.is_in_batch);
  return h(
    "div",
    { class: "actions", role: "group", "aria-label": "Operations on this thread" },
    status.paused ? button("Resume", wish("resume"), { kind: "primary" }) : button("Pause", wish("pause")),
    button("Answer now", wish("flush"), { disabled: !isWaiting, title: "End the window of what waits" }),
    button("Stop the answer", wish("stop", { confirm: { title: "Stop the answer?", text: "The batch under way ends for good; its messages are cancelled.", yes: "Stop the answer" } }), { disabled: !isRunning }),
    status.taken_over_by === me ? button("Hand back", wish("hand_back"), { kind: "primary" }) : button(status.taken_over_by ? `Take over from ${status.taken_over_by}` : "Take over", takingOver(status, wish)),
    button("Say", wish("say", { ask: { title: "Say something yourself", label: "Text, delivered as the assistant's", yes: "Say it" } })),
    failed.length > 0 && button(`Retry ${many(failed.length, "failed batch", "failed batches")}`, wish("retry_failed", { confirm: { title: `Retry ${many(failed.length, "failed batch", "failed batches")}?`, text: "They go back to the head of this thread.", yes: "Retry" } }), { kind: "primary" }),
  );
}

const takingOver = ({ taken_over_by: person }, wish) =>
  wish("take_over", { ...(person && { instead_of: person }), confirm: { title: person ? `Take over from ${person}?` : "Take over this thread?", text: "The model does not answer until you hand it back; an answer under way is stopped. What you say answers the messages before it.", yes: "Take over" } });

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const sentence = (text) => `${capital(text)}${/[.!?]$/.test(text) ? "" : "."}`;

const toneOf = (verdict) => (/fail|park|undeliver|paused|no_worker|suspended|lost|unknown/.test(verdict) ? "bad" : /answered|delivered|idle|completed|said/.test(verdict) ? "good" : "quiet");

function currentBatch(current, status, now) {
  return h(
    "div",
    { class: "card" },
    h("div", { class: "card-head" }, badge(status.state), h("span", { class: "soft" }, `batch under way for ${span(between(current.timeline.claimed_at, new Date(now).toISOString()))}`)),
    picture(current.timeline, { now, label: "Timeline of the batch under way" }),
    h("dl", { class: "facts" }, fact("Attempts", count(current.attempts)), current.run_id && fact("Run", h("code", {}, current.run_id)), fact("Batch", h("code", {}, current.batch_id)), status.due_at && fact("Looked at", due(status.due_at, now))),
  );
}

function messages(id, waiting, now, mayChange) {
  return h(
    "ul",
    { class: "messages" },
    waiting.map((one) =>
      h(
        "li",
        { "data-key": one.message_id, class: one.is_in_batch ? "message is-taken" : "message" },
        h("p", { class: "message-text" }, one.text || "(no text)"),
        h(
          "p",
          { class: "soft numbers" },
          one.author && `${one.author}, `,
          one.is_said ? "said by hand, not in the conversation yet" : one.is_in_batch ? "being answered" : "waits",
          one.queued_at && `, came ${ago(one.queued_at, now)}`,
          " ",
          h("code", {}, one.message_id),
          mayChange && [" ", button("Remove", { operation: "cancel_message", thread_id: id, message_id: one.message_id, confirm: { title: "Remove this message?", text: one.text.slice(0, 200), yes: "Remove" } }, { kind: "link", "aria-label": `Remove message ${one.message_id}` })],
        ),
      ),
    ),
  );
}

function batchCard(one, now) {
  const total = between(one.timeline.queued_at, one.timeline.delivered_at ?? one.ended_at);
  const lost = one.timeline.attempts.filter((attempt) => attempt.error);
  return h(
    "li",
    { class: "card", "data-key": one.batch_id },
    h("div", { class: "card-head" }, badge(one.outcome), h("b", { class: "numbers" }, moment(one.ended_at)), h("span", { class: "soft" }, `${ago(one.ended_at, now)}, ${many(one.message_count, "message")}${total === null ? "" : `, ${span(total)} in all`}`)),
    picture(one.timeline, { endedAt: one.ended_at, label: `Timeline of a batch that ended ${moment(one.ended_at)}` }),
    h(
      "dl",
      { class: "facts" },
      one.reason && fact("Reason", words(one.reason)),
      one.error_code && fact("Error", h("code", {}, one.error_code)),
      one.attempts > 1 && fact("Sent", `${count(one.attempts)} times`),
      one.model && fact("Model", one.model),
      one.usage && fact("Tokens", `${count(one.usage.input_tokens)} in, ${count(one.usage.output_tokens)} out`),
      one.tenant && fact("Tenant", one.tenant),
      one.delivery.state !== "none" && fact("Delivery", badge(one.delivery.state), one.delivery.channel && ` ${one.delivery.channel}`, one.delivery.tries > 1 && `, ${many(one.delivery.tries, "try", "tries")}`, one.delivery.error_code && [" ", h("code", {}, one.delivery.error_code)]),
    ),
    h(
      "details",
      {},
      h("summary", {}, "Ids, attempts and tools"),
      h("dl", { class: "facts" }, fact("Batch", h("code", {}, one.batch_id)), one.run_ids.length > 0 && fact(one.run_ids.length > 1 ? "Runs" : "Run", one.run_ids.map((run) => [h("code", {}, run), " "])), fact("Messages", one.message_ids.slice(0, 20).map((message) => [h("code", {}, message), " "]))),
      one.timeline.attempts.length > 0 && h("ol", { class: "attempts" }, one.timeline.attempts.map((attempt) => h("li", { class: "numbers" }, `Attempt ${attempt.number}: ${moment(attempt.started_at)}, ${span(between(attempt.started_at, attempt.ended_at))}`, attempt.worker && [" on ", h("code", {}, attempt.worker)], attempt.error && [" ", h("code", { class: "bad" }, attempt.error.code)]))),
      one.tool_calls.length > 0 && h("ol", { class: "attempts" }, one.tool_calls.map((call) => h("li", { class: "numbers" }, "Tool ", h("code", {}, call.name), ` ${span(call.duration_s)}`, call.error_code && [" ", h("code", { class: "bad" }, call.error_code)]))),
    ),
    lost.length > 1 && h("p", { class: "soft" }, `${many(lost.length, "attempt")} ended with ${[...new Set(lost.map((attempt) => words(attempt.error.code)))].join(", ")}.`),
  );
}

// A model that sees several people gets the name before the text.
const withoutName = ({ author, text }) => (author && text.startsWith(`${author}: `) ? text.slice(author.length + 2) : text);

function conversation(history, error) {
  if (error) return h("p", { class: "soft" }, `The provider's conversation cannot be read: ${error}`);
  if (!history) return h("p", { class: "soft" }, "Reading…");
  if (!history.is_kept) return h("p", { class: "soft" }, "The provider keeps no conversation that can be listed.");
  if (!history.messages.length) return empty("Nothing has been said yet");
  return h(
    "ol",
    { class: "said-list" },
    [...history.messages].reverse().map((one) =>
      h("li", { class: `turn turn-${one.role}`, "data-key": one.id }, h("p", { class: "turn-head" }, one.author ?? (one.role === "assistant" ? "Assistant" : "User"), one.created_at && h("span", { class: "soft numbers" }, ` ${moment(one.created_at)}`)), h("p", { class: "turn-text" }, withoutName(one) || (one.attachments.length ? `(${many(one.attachments.length, "attachment")})` : "(no text)"))),
    ),
  );
}
