// The page's logic, without a browser: events in, what is shown out.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const { apply, initial, localTime, refuse, remember, replyOf, say, sendAgain, takeBack, underWay, unsigned, whoTypes, windowText } = await import(`${process.env.PAGE}/state.js`);

const T0 = Date.parse("2026-01-01T00:00:00Z");
const at = (seconds) => new Date(T0 + seconds * 1000).toISOString();
const queued = (id, text, count = 1, author = "Mia") => ({
  type: "message_queued", message_id: id, author, content: text, due_at: at(4), pending_count: count, at: at(0),
});
const claimed = (ids, attempt = 1) => ({ type: "batch_claimed", batch_id: "b", message_ids: ids, attempt, at: at(4) });
const delta = (offset, text, run = "r", index = 0) => ({ type: "text_delta", batch_id: "b", run_id: run, index, offset, text, at: at(5) });
const ready = (ids, ...replies) => ({
  type: "reply_ready", batch_id: "b", run_id: "r", message_ids: ids, replies, reply: replies.join("\n\n"), incomplete_reason: null, at: at(6),
});

function play(...events) {
  const state = initial();
  for (const event of events) apply(state, event, T0);
  return state;
}
const texts = (state) => state.items.map((item) => (item.kind === "message" ? item.text : replyOf(item).join("|")));

test("a burst is one answer behind its messages", () => {
  const state = play(queued("1", "a"), queued("2", "b", 2), claimed(["1", "2"]), queued("3", "later"), delta(0, "Hel"), delta(3, "lo"));
  assert.deepEqual(texts(state), ["a", "b", "Hello", "later"]);
  assert.equal(state.items[2].count, 2);
  apply(state, ready(["1", "2"], "Hello!"), T0);
  assert.deepEqual(texts(state), ["a", "b", "Hello!", "later"]);
  assert.deepEqual(state.items.map((item) => item.status), ["answered", "answered", "done", "waiting"]);
});

test("what a second worker says again replaces what the first said, character by character", () => {
  const state = play(queued("1", "a"), claimed(["1"]), delta(0, "One 🙈 two"), claimed(["1"], 1), delta(5, " two th"), delta(12, "ree"));
  assert.equal(replyOf(state.items[1])[0], "One 🙈 two three");
  const again = play(queued("1", "a"), claimed(["1"]), delta(0, "One two"), delta(0, "Once"), delta(4, " more"));
  assert.equal(replyOf(again.items[1])[0], "Once more");
});

test("an event that comes twice changes nothing", () => {
  const events = [queued("1", "a"), claimed(["1"]), delta(0, "Hi"), ready(["1"], "Hi")];
  assert.deepEqual(play(...events, ...events).items, play(...events).items);
});

test("the runs of a batch stand one behind the other, with their tools", () => {
  const call = { type: "tool_called", batch_id: "b", run_id: "r", tool_call_id: "c", name: "look", arguments: "{}", at: at(5) };
  const state = play(queued("1", "a"), claimed(["1"]), delta(0, "Let me look."), call, call);
  assert.deepEqual(state.items[1].tools, [{ id: "c", name: "look", done: false }]);
  apply(state, { type: "tool_answered", batch_id: "b", tool_call_id: "c", output: "", at: at(5) }, T0);
  apply(state, delta(0, "Found.", "r2"), T0);
  assert.equal(state.items[1].tools[0].done, true);
  assert.deepEqual(replyOf(state.items[1]), ["Let me look.", "Found."]);
});

test("a failed attempt takes back what it said; a failed batch says so on its messages", () => {
  const failed = { type: "attempt_failed", batch_id: "b", attempt: 1, error: { code: "x", detail: "No." }, retry_at: at(9), at: at(5) };
  const state = play(queued("1", "a"), claimed(["1"]), delta(0, "Hel"), failed);
  assert.deepEqual([state.items[1].status, replyOf(state.items[1])], ["retrying", []]);
  apply(state, { type: "batch_dead_lettered", batch_id: "b", message_ids: ["1"], error: { code: "x", detail: "No." }, at: at(6) }, T0);
  assert.deepEqual(state.items.map((item) => item.status), ["failed", "failed"]);
  apply(state, { type: "batch_retried", batch_id: "b", message_ids: ["1"], pending_count: 1, at: at(7) }, T0);
  assert.deepEqual(state.items.map((item) => item.status), ["waiting"]);
});

test("the window is told in words, by the server's clock", () => {
  const state = play(queued("1", "a"), queued("2", "b", 2), queued("3", "c", 3));
  assert.equal(windowText(state, T0 + 500).text, "3 messages, one answer in 4 s");
  assert.equal(windowText(state, T0 + 3100).text, "3 messages, one answer in 1 s");
  assert.equal(windowText(state, T0 + 5000).text, "3 messages, one answer now");
  apply(state, claimed(["1", "2", "3"]), T0 + 4000);
  assert.equal(windowText(state, T0 + 4000), null);
  apply(state, { ...queued("4", "d"), at: at(4.5) }, T0 + 4500);
  assert.equal(windowText(state, T0 + 4500).text, "1 message, answered together next");
  const late = initial(); // this machine's clock is an hour ahead
  apply(late, queued("1", "a"), T0 + 3600_000);
  assert.equal(windowText(late, T0 + 3600_000).text, "1 message, one answer in 4 s");
  assert.equal(localTime(late, at(0)), T0 + 3600_000);
});

test("what was said without a run is shown once, where it was said", () => {
  const said = { type: "said", message_id: "s", author: "Jo", text: "One moment", kind: "notice", at: at(1) };
  const state = play(queued("1", "a"), said, said, claimed(["1"]), ready(["1"], "Hi"));
  assert.deepEqual(texts(state), ["a", "Hi", "One moment"]);
});

test("a person answers: their words are shown once, with their name, and no answer is awaited", () => {
  const said = { type: "said", message_id: "s", author: "Jo", text: "Jo here", kind: "reply", at: at(1) };
  const state = play({ type: "taken_over", by: "Jo", instead_of: null, at: at(0) }, queued("1", "a"));
  assert.equal(state.person, "Jo");
  assert.deepEqual(windowText(state, T0), { text: "1 message for Jo", left: null });
  for (const event of [said, claimed(["1", "s"]), { ...ready(["1", "s"], "Jo here"), answered_by: "Jo" }]) apply(state, event, T0);
  assert.deepEqual(texts(state), ["a", "Jo here"]);
  assert.deepEqual(state.items.map((item) => [item.status, item.author]), [["answered", "Mia"], ["done", "Jo"]]);
  assert.equal(underWay(state), undefined);
  assert.equal(windowText(state, T0), null);
  apply(state, { type: "handed_back", by: "Jo", at: at(9) }, T0);
  assert.equal(state.person, null);
});

test("a message that wants no reply has no window", () => {
  const quiet = { ...queued("1", "a"), due_at: null };
  assert.deepEqual(windowText(play(quiet), T0), { text: "1 message, answered with the next", left: null });
});

test("a message of one's own stands where the server took it, and can be taken back before", () => {
  const state = initial();
  say(state, { id: "1", author: "Mia", text: "mine" });
  apply(state, queued("2", "theirs", 1, "Tom"), T0);
  apply(state, queued("1", "mine", 2), T0);
  assert.deepEqual(texts(state), ["theirs", "mine"]);
  say(state, { id: "3", author: "Mia", text: "too fast" });
  refuse(state, "3", { status: 429 });
  assert.equal(state.items[2].status, "refused");
  sendAgain(state, "3");
  assert.equal(state.items[2].status, "sending");
  takeBack(state, "3");
  takeBack(state, "1");
  assert.deepEqual(texts(state), ["theirs", "mine"]);
  apply(state, { type: "message_cancelled", message_id: "1", at: at(1) }, T0);
  apply(state, { type: "message_edited", message_id: "2", content: [{ type: "text", text: "new" }], at: at(1) }, T0);
  assert.deepEqual([texts(state), state.items[1].status, state.window.count], [["new", "mine"], "cancelled", 1]);
});

test("what the provider keeps and what events tell is shown once", () => {
  const state = initial();
  const row = (id, role, text) => ({ id, role, text });
  remember(state, { next: "m1", messages: [
    row("m6", "assistant", "Hi Mia"), row("m5", "user", "Mia: ok"), row("m4", "assistant", "old answer"),
    row("m3", "user", "Tom: two\n    lines"), row("m2", "user", "Mia: ok"),
  ] });
  for (const event of [queued("1", "ok"), claimed(["1"]), ready(["1"], "Hi Mia"), { type: "caught_up" }]) apply(state, event, T0);
  assert.deepEqual(state.older.map((one) => [one.author, one.text]), [["Mia", "ok"], ["Tom", "two\nlines"], [undefined, "old answer"]]);
  apply(state, queued("2", "old answer", 1, null), T0); // said again now: it hides nothing of what was
  assert.equal(state.older.length, 3);
  remember(state, { next: null, messages: [row("m1", "user", "first")] });
  assert.deepEqual(state.older.map((one) => one.text), ["first", "ok", "two\nlines", "old answer"]);
});

test("a text that only looks signed stays as it is", () => {
  assert.deepEqual(unsigned("plain"), { author: null, text: "plain" });
  assert.deepEqual(unsigned("(no name): hi"), { author: null, text: "hi" });
  assert.deepEqual(unsigned("a\nb: c"), { author: null, text: "a\nb: c" });
});

test("who types is shown for a while, and never oneself", () => {
  const typing = (author) => ({ type: "typing", author, until: at(5), at: at(0) });
  const state = play(typing("Tom"), typing("Mia"), typing("Ann"), typing(null));
  assert.deepEqual(whoTypes(state, "Mia", T0), ["Ann", "Tom"]);
  assert.deepEqual(whoTypes(state, "Mia", T0 + 6000), []);
  apply(state, queued("1", "said", 1, "Tom"), T0);
  assert.deepEqual(whoTypes(state, "Mia", T0), ["Ann"]);
});

test("where events are missing, everything begins again but for what is not sent", () => {
  const state = play(queued("1", "a"), claimed(["1"]), delta(0, "half an ans"), { type: "caught_up" });
  say(state, { id: "2", author: "Mia", text: "not sent" });
  apply(state, { type: "events_missed", after: "1-1", at: at(9) }, T0);
  assert.deepEqual([texts(state), state.caughtUp, state.missed], [["not sent"], false, true]);
  remember(state, { next: null, messages: [{ id: "m2", role: "assistant", text: "the answer" }, { id: "m1", role: "user", text: "Mia: a" }] });
  apply(state, { type: "caught_up" }, T0);
  assert.deepEqual(state.older.map((one) => one.text), ["a", "the answer"]);
});

test("a stopped run keeps what was said, as no answer", () => {
  const stopped = { type: "run_stopped", batch_id: "b", run_id: "r", message_ids: ["1"], reply: "Hel", replies: ["Hel"], usage: null, at: at(6) };
  const state = play(queued("1", "a"), claimed(["1"]), delta(0, "Hello"));
  assert.equal(underWay(state).id, "b");
  apply(state, stopped, T0);
  assert.deepEqual(state.items.map((item) => item.status), ["stopped", "stopped"]);
  assert.deepEqual([texts(state), underWay(state)], [["a", "Hel"], undefined]);
  apply(state, delta(3, "lo"), T0); // on its way when it was stopped
  assert.deepEqual(texts(state), ["a", "Hel"]);
});

test("an interrupted run is withdrawn, and its batch goes on with the new message", () => {
  const state = play(queued("1", "a"), claimed(["1"]), delta(0, "Hello"), queued("2", "b", 1));
  apply(state, { type: "run_interrupted", batch_id: "b", run_id: "r", message_ids: ["1", "2"], at: at(6) }, T0);
  assert.deepEqual(texts(state), ["a", "b", ""]);
  assert.deepEqual(state.items.map((item) => item.status), ["working", "working", "working"]);
  assert.deepEqual([state.items[2].count, state.window], [2, null]);
  apply(state, delta(5, " there"), T0); // of the run that was interrupted
  assert.deepEqual(texts(state), ["a", "b", ""]);
  for (const event of [delta(0, "Both", "r2"), ready(["1", "2"], "Both")]) apply(state, event, T0);
  assert.deepEqual(texts(state), ["a", "b", "Both"]);
  assert.deepEqual(state.items.map((item) => item.status), ["answered", "answered", "done"]);
});

test("a batch that is claimed again with more messages stands below them", () => {
  const state = play(queued("1", "a"), claimed(["1"]), queued("2", "b", 1), claimed(["1", "2"]));
  assert.deepEqual(texts(state), ["a", "b", ""]);
  assert.deepEqual([state.items[2].count, state.window], [2, null]);
});

test("a message that joins the running answer belongs to it", () => {
  const state = play(queued("1", "a"), claimed(["1"]), queued("2", "b", 1), queued("3", "c", 2));
  apply(state, { type: "message_steered", batch_id: "b", run_id: "r", message_ids: ["2"], at: at(6) }, T0);
  assert.deepEqual(state.items.map((item) => item.status), ["working", "working", "working", "waiting"]);
  assert.deepEqual([state.items[2].count, state.window.count], [2, 1]);
  apply(state, ready(["1", "2"], "Both"), T0);
  assert.deepEqual(texts(state), ["a", "b", "Both", "c"]);
  assert.deepEqual(state.items.map((item) => item.status), ["answered", "answered", "done", "waiting"]);
});

test("an event of a newer version is left alone", () => {
  assert.deepEqual(play({ type: "dance", at: at(0) }).items, []);
});

if (process.env.TRANSCRIPTS) {
  test("however often a listener comes back, it ends with the same transcript", () => {
    const told = JSON.parse(readFileSync(process.env.TRANSCRIPTS, "utf8"));
    const shown = told.map((events) => JSON.stringify(play(...events).items));
    assert.ok(shown.length > 1);
    for (const one of shown) assert.equal(one, shown[0]);
  });
}

const asked = (id, question = "Refund 7?") => ({ type: "approval_requested", batch_id: "b", call_id: id, tool: "refund", arguments: "{}", question, kind: "approval", authors: [], expires_at: at(99), at: at(5) });
const settled = (id, verdict, by = null) => ({ type: "approval_settled", batch_id: "b", call_id: id, verdict, by, reason: null, at: at(6) });

test("a call that waits stands in its answer, and shows how it was settled", () => {
  const state = play(queued("1", "a"), claimed(["1"]), asked("c1"), asked("c2"), asked("c1"), settled("c1", "approved", "eve"), settled("other", "denied"));
  const [, batch] = state.items;
  assert.deepEqual(batch.asks.map(({ id, verdict, by }) => [id, verdict, by]), [["c1", "approved", "eve"], ["c2", null, null]]);
});

test("what is asked of the service adds calls, and closes those that wait no more", () => {
  const state = play(queued("1", "a"), claimed(["1"]), asked("c1"), { type: "calls_read", decides: true, calls: [asked("c2")] });
  assert.equal(state.decides, true);
  assert.deepEqual(state.items[1].asks.map(({ id, verdict }) => [id, verdict]), [["c1", "settled"], ["c2", null]]);
  apply(state, { type: "calls_read", decides: false, calls: null }, T0);
  assert.equal(state.items[1].asks[1].verdict, null);
});
