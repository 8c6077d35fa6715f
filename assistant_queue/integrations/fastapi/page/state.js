// What the page knows, and how events change it. Pure: no network, no clock, no document. The tests run it without a browser.
//
// state.items holds, in order: messages {kind: "message", id, author, text, status, ...} and batches {kind: "batch", id, status, parts, tools, ...}.
// A message is: sending, refused (not taken by the server), waiting, working, answered, cancelled, failed, stopped. Of this page's own, `wishes.js` has more.
// A batch is: working, done, retrying, failed, parked, discarded, stopped.

import { shownOf } from "./parts.js";
import { fulfil, isOpen, refuseWishes, settleWish } from "./wishes.js";

export function initial() {
  return {
    items: [],
    window: null, // {dueAt, count}: messages that wait for their window
    typing: {}, // author -> until, ms of this machine
    people: [],
    person: null, // the name of the person that answers instead of the model
    takeovers: 0, // events that said so
    decides: false, // whether this page may settle tool calls
    skew: null, // ms to add to the server's times
    history: [], // what the provider keeps, oldest first
    older: [], // of it, what the events no longer tell
    more: null, // cursor of the page before
    caughtUp: false,
    missed: false,
  };
}

const ENDED = new Set(["done", "stopped"]); // text that is on its way is none of theirs

const find = (state, kind, id) => state.items.find((item) => item.kind === kind && item.id === id);

export function apply(state, event, now) {
  if (event.at) learnTime(state, event.at, now);
  const change = changes[event.type];
  if (change) change(state, event);
  return state;
}

// The least difference ever seen is nearest to the truth: events of the past only look later.
function learnTime(state, at, now) {
  const skew = now - Date.parse(at);
  if (state.skew === null || skew < state.skew) state.skew = skew;
}

export const localTime = (state, serverTime) => Date.parse(serverTime) + (state.skew ?? 0);

const changes = {
  message_queued(state, event) {
    const known = find(state, "message", event.message_id);
    if (known && known.status !== "sending" && known.status !== "refused") return; // told again
    if (known) state.items.splice(state.items.indexOf(known), 1); // it stands where the server took it
    state.items.push({
      kind: "message",
      id: event.message_id,
      author: event.author,
      ...shownOf(event.content),
      status: "waiting",
      at: event.at,
    });
    state.window = { dueAt: event.due_at, count: event.pending_count };
    delete state.typing[event.author];
  },
  message_edited(state, event) {
    const message = find(state, "message", event.message_id);
    if (!message) return;
    Object.assign(message, { ...shownOf(event.content), edited: true });
    fulfil(message, "edit");
  },
  message_cancelled(state, event) {
    const message = find(state, "message", event.message_id);
    const isOfBatch = message?.status === "working"; // and in no window
    if (message) {
      message.status = "cancelled";
      settleWish(message);
      delete message.late;
    }
    if (!isOfBatch && state.window && --state.window.count < 1) state.window = null;
  },
  window_moved(state, event) {
    state.window = event.pending_count ? { dueAt: event.due_at, count: event.pending_count } : null;
  },
  typing(state, event) {
    if (event.author) state.typing[event.author] = event.until;
  },
  batch_claimed(state, event) {
    if (isWritten(state, event)) return;
    const batch = moved(state, event);
    Object.assign(batch, { status: "working", attempt: event.attempt, count: event.message_ids.length, claimedAt: batch.claimedAt ?? event.at });
    mark(state, event.message_ids, "working");
    countWaiting(state);
  },
  run_started(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (batch) batch.status = "working";
  },
  text_delta(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (!batch || ENDED.has(batch.status) || batch.interrupted === event.run_id) return;
    const key = `${event.run_id}/${event.index}`;
    let part = batch.parts.find((one) => one.key === key);
    if (!part) batch.parts.push((part = { key, points: [] }));
    // Offsets count code points. What comes again replaces what was there: a run that another worker goes on with.
    if (event.offset < part.points.length) part.points.length = event.offset;
    part.points.push(...event.text);
  },
  tool_called(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (!batch || batch.tools.some((tool) => tool.id === event.tool_call_id)) return;
    batch.tools.push({ id: event.tool_call_id, name: event.name, done: false });
  },
  tool_answered(state, event) {
    const batch = find(state, "batch", event.batch_id);
    const tool = batch && batch.tools.find((one) => one.id === event.tool_call_id);
    if (tool) tool.done = true;
  },
  reply_ready(state, event) {
    if (isWritten(state, event)) { // what was said is on the page
      mark(state, event.message_ids, "answered");
      countWaiting(state);
      return;
    }
    const batch = batchOf(state, event);
    Object.assign(batch, { status: "done", replies: event.replies, readyAt: event.at, incomplete: event.incomplete_reason, error: null });
    for (const tool of batch.tools) tool.done = true;
    mark(state, event.message_ids, "answered");
  },
  attempt_failed(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (batch) Object.assign(batch, { status: "retrying", parts: [], retryAt: event.retry_at, error: event.error, fallback: null });
  },
  // Ended for good: what was said until then stays, and is no answer.
  run_stopped(state, event) {
    const batch = batchOf(state, event);
    Object.assign(batch, { status: "stopped", replies: event.replies, readyAt: event.at, error: null });
    for (const tool of batch.tools) tool.done = true;
    mark(state, event.message_ids, "stopped");
  },
  // Its text is withdrawn; the batch continues with the messages that came meanwhile.
  run_interrupted(state, event) {
    const batch = moved(state, event);
    Object.assign(batch, { status: "working", count: event.message_ids.length, parts: [], tools: [], interrupted: event.run_id || true });
    mark(state, event.message_ids, "working");
    countWaiting(state);
  },
  // The answer that is under way is finished first.
  interrupt_refused(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (batch) batch.isFirm = true;
    refuseWishes(state.items);
  },
  // Joined to the answer that is under way.
  message_steered(state, event) {
    const batch = moved(state, event);
    batch.count += event.message_ids.length;
    mark(state, event.message_ids, "working");
    countWaiting(state);
  },
  batch_dead_lettered: (state, event) => fail(state, event, "failed"),
  batch_parked: (state, event) => fail(state, event, "parked"),
  batch_retried(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (batch) state.items.splice(state.items.indexOf(batch), 1);
    mark(state, event.message_ids, "waiting");
  },
  said(state, event) {
    if (find(state, "batch", event.message_id)) return; // told again
    state.items.push({ kind: "batch", id: event.message_id, status: "done", count: 0, parts: [], tools: [], replies: [event.text], readyAt: event.at, author: event.author });
  },
  taken_over(state, event) {
    state.person = event.by;
    state.takeovers++;
  },
  handed_back(state) {
    state.person = null;
    state.takeovers++;
  },
  approval_requested(state, event) {
    const batch = batchOf(state, { message_ids: [], ...event });
    batch.asks ??= [];
    if (batch.asks.some((ask) => ask.id === event.call_id)) return; // told again
    batch.asks.push({ id: event.call_id, tool: event.tool, question: event.question, kind: event.kind, verdict: null, by: null });
  },
  approval_settled(state, event) {
    const ask = asksOf(state).find((one) => one.id === event.call_id);
    if (ask) Object.assign(ask, { verdict: event.verdict, by: event.by, reason: event.reason });
  },
  // The page's own: the calls that wait now; the events about them may not be kept any more.
  calls_read(state, { calls, decides }) {
    state.decides = decides;
    if (!calls) return;
    for (const call of calls) changes.approval_requested(state, call);
    const open = new Set(calls.map((call) => call.call_id));
    for (const ask of asksOf(state)) if (!ask.verdict && !open.has(ask.id)) ask.verdict = "settled";
  },
  batch_discarded(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (batch) batch.status = "discarded";
  },
  // The page's own: what the service says where there is no answer.
  fallback(state, event) {
    const batch = find(state, "batch", event.batch_id);
    if (batch && batch.status !== "done") batch.fallback = event.reply;
  },
  presence(state, event) {
    state.people = event.people;
  },
  // What was put together may lack its end: forget it, all but what is not sent yet. What is still kept follows.
  events_missed(state) {
    const unsent = state.items.filter((item) => item.status === "sending" || item.status === "refused");
    Object.assign(state, { items: unsent, window: null, history: [], older: [], more: null, known: null, caughtUp: false, missed: true });
  },
  caught_up(state) {
    if (!state.caughtUp) settle(state);
    state.caughtUp = true;
  },
};

export const EVENT_TYPES = Object.keys(changes);

const asksOf = (state) => state.items.flatMap((item) => item.asks ?? []);

function fail(state, event, status) {
  const batch = batchOf(state, event);
  Object.assign(batch, { status, parts: [], error: event.error });
  mark(state, event.message_ids, "failed");
}

// A person's words, or others that were said, are written to the conversation with the messages before them: no run answers.
const isWritten = (state, event) => Boolean(event.answered_by) || event.message_ids.some((id) => find(state, "batch", id));

// The batch, behind the last of its messages.
function batchOf(state, event) {
  const found = find(state, "batch", event.batch_id);
  if (found) return found;
  const batch = { kind: "batch", id: event.batch_id, status: "working", count: event.message_ids.length, parts: [], tools: [], replies: null };
  let place = state.items.length;
  for (let i = state.items.length - 1; i >= 0; i--) {
    if (state.items[i].kind === "message" && event.message_ids.includes(state.items[i].id)) {
      place = i + 1;
      break;
    }
  }
  state.items.splice(place, 0, batch);
  return batch;
}

// The same below messages that joined it.
function moved(state, event) {
  const batch = batchOf(state, event);
  const place = state.items.indexOf(batch);
  const last = state.items.findLastIndex((item) => item.kind === "message" && event.message_ids.includes(item.id));
  if (last > place) {
    state.items.splice(last + 1, 0, batch);
    state.items.splice(place, 1);
  }
  return batch;
}

function countWaiting(state) {
  const left = state.items.filter((item) => item.kind === "message" && item.status === "waiting").length;
  state.window = left && state.window ? { ...state.window, count: left } : null;
}

function mark(state, ids, status) {
  for (const item of state.items) {
    if (item.kind !== "message" || !ids.includes(item.id)) continue;
    item.status = status;
    settleWish(item);
  }
}

// --- what this page itself says ----------------------------------------------------------------------------------------

export function say(state, message) {
  const { parts, ...known } = message; // of its files
  const { files } = parts?.length ? shownOf(parts) : { files: null };
  if (!find(state, "message", message.id)) state.items.push({ kind: "message", status: "sending", mine: true, ...known, files });
}

export function refuse(state, id, why) {
  const message = find(state, "message", id);
  if (message && message.status === "sending") Object.assign(message, { status: "refused", why });
}

export function sendAgain(state, id) {
  const message = find(state, "message", id);
  if (message && message.status === "refused") Object.assign(message, { status: "sending", why: null });
}

const isOwn = (item, me) => item.kind === "message" && (item.mine || (item.author !== null && item.author === me));

// The last of one's own that can be edited.
export const lastOpen = (state, me) => state.items.findLast((item) => isOwn(item, me) && isOpen(item) && !item.wish);

// The message that may interrupt the answer under way; all that wait join it then. The last of one's own, if no wish is on its way.
export function promotable(state, me) {
  const batch = underWay(state);
  if (batch?.status !== "working" || batch.isFirm) return null;
  const own = state.items.filter((item) => isOwn(item, me) && item.status === "waiting");
  return own.some((item) => item.wish) ? null : (own.at(-1) ?? null);
}

// The batch that can be stopped: one of a thread is under way at a time.
export const underWay = (state) => state.items.findLast((item) => item.kind === "batch" && (item.status === "working" || item.status === "retrying"));

export const messageOf = (state, id) => find(state, "message", id);

export function takeBack(state, id) {
  const message = find(state, "message", id);
  if (message && (message.status === "refused" || message.status === "sending")) state.items.splice(state.items.indexOf(message), 1);
}

// --- what was said before the events that are still kept ---------------------------------------------------------------

export function remember(state, page) {
  const rows = [...page.messages].reverse().filter((row) => (row.text || row.attachments?.length) && (row.role === "user" || row.role === "assistant"));
  state.history = [...rows, ...state.history];
  state.more = page.next;
  if (state.caughtUp) settle(state);
}

// The provider's rows and the events overlap: newest first, each row that an event tells of is left out, once.
function settle(state) {
  if (!state.known) {
    state.known = [];
    for (const item of state.items) {
      if (item.kind === "message") state.known.push(textsOf(item));
      else for (const reply of item.replies ?? []) state.known.push(new Set([reply]));
    }
  }
  const left = [...state.known];
  const older = [];
  for (const row of [...state.history].reverse()) {
    const place = left.findLastIndex((texts) => texts.has(row.text));
    if (place >= 0) left.splice(place, 1);
    else older.push(row);
  }
  state.older = older.reverse().map((row) => olderRow(row));
}

function olderRow({ id, role, created_at: at, text, author, attachments }) {
  if (role !== "user") return { id, role, at, text };
  const said = unsigned(text);
  const files = attachments?.length ? shownOf(attachments.map(({ type, name }) => ({ type, filename: name ?? undefined }))).files : null;
  return { id, role, at, text: said.text, author: author ?? said.author, files };
}

// What the provider may keep of a message: its text with or without a name, its parts likewise.
function textsOf(item) {
  if (!item.files) return new Set([item.text, signed(item.author, item.text)]);
  const { texts } = item.files;
  const indented = texts.map((text) => text.split("\n").map((line) => `    ${line}`).join("\n"));
  return new Set([texts.join("\n"), [signed(item.author, ""), ...indented].join("\n")]);
}

// As the model sees a message of somebody with a name: see signed() in assistant_queue/core/batching.py.
function signed(author, text) {
  const name = (author ?? "").replaceAll(":", " ").split(/\s+/).filter(Boolean).join(" ") || "(no name)";
  const [first, ...others] = text.split("\n");
  return [`${name}: ${first}`, ...others.map((line) => `    ${line}`)].join("\n");
}

export function unsigned(text) {
  const found = /^([^:\n]{1,128}): ([\s\S]*)$/.exec(text);
  if (!found) return { author: null, text };
  const [first, ...others] = found[2].split("\n");
  return { author: found[1] === "(no name)" ? null : found[1], text: [first, ...others.map((line) => line.replace(/^ {4}/, ""))].join("\n").replace(/^\n/, "") };
}

// --- what the view asks -------------------------------------------------------------------------------------------------

export const replyOf = (batch) => (batch.replies ? batch.replies : batch.parts.map((part) => part.points.join("")));

export function whoTypes(state, me, now) {
  return Object.entries(state.typing)
    .filter(([author, until]) => author !== me && localTime(state, until) > now)
    .map(([author]) => author)
    .sort();
}

export function windowText(state, now) {
  const { window } = state;
  if (!window) return null;
  if (state.person) return { text: `${window.count} message${window.count === 1 ? "" : "s"} for ${state.person}`, left: null };
  const working = state.items.some((item) => item.kind === "batch" && item.status === "working");
  const messages = `${window.count} message${window.count === 1 ? "" : "s"}`;
  if (!window.dueAt && !working) return { text: `${messages}, answered with the next`, left: null };
  const left = Math.max(0, localTime(state, window.dueAt) - now);
  if (working) return { text: `${messages}, answered together next`, left: null };
  if (left <= 0) return { text: `${messages}, one answer now`, left: 0 };
  return { text: `${messages}, one answer in ${Math.ceil(left / 1000)} s`, left };
}
