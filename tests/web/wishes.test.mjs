// Edits, removals and promotions that the page asked for, until events say what became of them.

import assert from "node:assert/strict";
import { test } from "node:test";

const { apply, initial, lastOpen, messageOf, promotable } = await import(`${process.env.PAGE}/state.js`);
const { isOpen, refusalText, wish } = await import(`${process.env.PAGE}/wishes.js`);

const AT = "2026-01-01T00:00:00Z";
const NOW = Date.parse(AT);
const queued = (id, text, count = 1, author = "Mia") => ({ type: "message_queued", message_id: id, author, content: text, due_at: AT, pending_count: count, at: AT });
const ofBatch = (type, ids, more = {}) => ({ type, batch_id: "b", run_id: "r", message_ids: ids, replies: [], attempt: 1, at: AT, ...more });
const claimed = (...ids) => ofBatch("batch_claimed", ids);
const edited = (id, text) => ({ type: "message_edited", message_id: id, content: text, at: AT });
const refused = (reason = "max_interrupts") => ({ type: "interrupt_refused", batch_id: "b", reason, at: AT });

function play(...events) {
  const state = initial();
  const then = (...more) => more.forEach((event) => apply(state, event, NOW));
  then(...events);
  return { state, then, message: (id) => messageOf(state, id) };
}

test("an edit of a running batch is pending until its event, which draws it", () => {
  const { then, message, state } = play(queued("1", "a"), queued("2", "b", 2), claimed("1", "2"));
  wish(message("1"), "edit", { text: "c", files: null });
  then(claimed("1", "2")); // another attempt: the wish stays
  assert.deepEqual([message("1").text, message("1").wish.kind], ["a", "edit"]);
  then(edited("1", "c"), ofBatch("run_interrupted", ["1", "2"]));
  assert.deepEqual([message("1").text, message("1").wish, message("1").late, message("1").edited], ["c", undefined, undefined, true]);
  assert.equal(state.items.at(-1).interrupted, "r");
});

test("a removal of a running batch leaves the window of those that wait alone", () => {
  const { then, message, state } = play(queued("1", "a"), queued("2", "b", 2), claimed("1", "2"), queued("3", "c", 1));
  wish(message("2"), "remove");
  then({ type: "message_cancelled", message_id: "2", at: AT });
  assert.deepEqual([message("2").status, message("2").wish, state.window.count], ["cancelled", undefined, 1]);
  then(ofBatch("run_interrupted", ["1", "3"]));
  assert.deepEqual(state.items.map((item) => item.id), ["1", "2", "3", "b"]);
  assert.equal(state.items[3].count, 2);
});

test("the last message of a batch that is removed is stopped", () => {
  const { then, message } = play(queued("1", "a"), claimed("1"));
  wish(message("1"), "remove");
  then(ofBatch("run_stopped", ["1"]));
  assert.deepEqual([message("1").status, message("1").wish, isOpen(message("1"))], ["stopped", undefined, false]);
});

test("an answer that came first is said, and the words of the edit are kept", () => {
  const { then, message } = play(queued("1", "a"), claimed("1"));
  wish(message("1"), "edit", { text: "c", files: null });
  then(ofBatch("reply_ready", ["1"]));
  assert.deepEqual([message("1").text, message("1").wish], ["a", undefined]);
  assert.deepEqual(message("1").late, { kind: "edit", content: { text: "c", files: null }, isRefused: false });
});

test("a refusal ends all wishes, and is said only where there were some", () => {
  const { then, message, state } = play(queued("1", "a"), claimed("1"), queued("2", "b"));
  assert.equal(refusalText("cannot_cancel", state.items), null);
  wish(message("1"), "remove");
  assert.match(refusalText("cannot_cancel", state.items), /cannot be interrupted.*stays as it was/);
  wish(message("2"), "now");
  assert.match(refusalText("max_batch_size", state.items), /takes no more messages.*answered next/);
  assert.match(refusalText("max_interrupts", state.items), /several times.*answered next/);
  then(refused());
  assert.deepEqual([message("1").late.isRefused, message("2").wish, message("2").late], [true, undefined, undefined]);
  assert.equal(promotable(state, "Mia"), null, "it would be refused again");
  then(edited("1", "z")); // made all the same, by another interruption
  assert.equal(message("1").late, undefined);
});

test("the last of one's own that waits may interrupt an answer under way", () => {
  const { then, message, state } = play(queued("1", "a"));
  assert.equal(promotable(state, "Mia"), null, "nothing is under way");
  then(claimed("1"), queued("2", "b"), queued("3", "c", 2), queued("4", "d", 3, "Tom"));
  assert.equal(promotable(state, "Mia").id, "3");
  assert.equal(promotable(state, "Ann"), null);
  wish(message("3"), "now");
  assert.equal(promotable(state, "Mia"), null, "asked already");
  then(ofBatch("run_interrupted", ["1", "2", "3", "4"]));
  assert.equal(message("3").wish, undefined);
  then(queued("5", "e"), ofBatch("attempt_failed", undefined, { retry_at: AT, error: {} }));
  assert.equal(promotable(state, "Mia"), null, "it waits for its next attempt");
});

test("the last of one's own that can be edited waits or is being answered", () => {
  const { then, message, state } = play(queued("1", "a"), claimed("1"), queued("2", "b", 1, "Tom"));
  assert.equal(lastOpen(state, "Mia").id, "1");
  wish(message("1"), "edit", { text: "c" });
  assert.equal(lastOpen(state, "Mia"), undefined);
  then(edited("1", "c"), ofBatch("reply_ready", ["1"]));
  assert.equal(lastOpen(state, "Mia"), undefined);
});
