// The pure parts of the operations page.

import assert from "node:assert/strict";
import { test } from "node:test";

const { span, due, ago, many, between } = await import(`${process.env.PAGE}/format.js`);
const { niceTop } = await import(`${process.env.PAGE}/charts.js`);
const { phasesOf } = await import(`${process.env.PAGE}/picture.js`);
const { needsOf } = await import(`${process.env.PAGE}/overview.js`);
const search = await import(`${process.env.PAGE}/search.js`);

test("spans read as people say them", () => {
  const said = [0, 0.0004, 0.412, 0.9996, 3.44, 9.96, 42, 59.6, 300, 7500, 86400, 864000, null, -3].map(span);
  assert.deepEqual(said, ["0 s", "0 ms", "412 ms", "1 s", "3.4 s", "10 s", "42 s", "1 min", "5 min", "2 h 5 min", "24 h", "10 d", "–", "0 s"]);
});

test("times are told from now", () => {
  const now = Date.parse("2026-03-02T12:00:00Z");
  assert.equal(due("2026-03-02T12:00:04Z", now), "in 4 s");
  assert.equal(due("2026-03-02T11:59:18Z", now), "overdue 42 s");
  assert.equal(due(null, now), "–");
  assert.equal(ago("2026-03-02T11:58:00Z", now), "2 min ago");
  assert.equal(between("2026-03-02T11:58:00Z", "2026-03-02T11:57:00Z"), 0);
  assert.deepEqual([many(1, "try", "tries"), many(2, "try", "tries"), many(1200, "event")], ["1 try", "2 tries", "1,200 events"]);
});

test("an axis ends at a round number", () => {
  assert.deepEqual([0, -1, 0.3, 1, 1.2, 4.9, 7, 11, 950].map(niceTop), [1, 1, 0.5, 1, 2, 5, 10, 20, 1000]);
});

test("a phase without its time belongs to the one before", () => {
  const at = (seconds) => new Date(Date.parse("2026-03-02T12:00:00Z") + 1000 * seconds).toISOString();
  const whole = { queued_at: at(0), due_at: at(2), claimed_at: at(3), sent_at: at(3.5), first_token_at: at(4), completed_at: at(6), delivered_at: at(7) };
  assert.deepEqual(phasesOf(whole).map((one) => [one.kind, one.seconds]), [["window", 2], ["line", 1], ["sending", 0.5], ["thinking", 0.5], ["writing", 2], ["delivering", 1]]);
  const failed = { ...whole, first_token_at: null, completed_at: null, delivered_at: null };
  assert.deepEqual(phasesOf(failed, at(9)).map((one) => [one.kind, one.seconds]), [["window", 2], ["line", 1], ["sending", 0.5], ["thinking", 5.5]]);
  assert.deepEqual(phasesOf({}), []);
  // A window that ended early was due later than it was claimed.
  assert.deepEqual(phasesOf({ queued_at: at(0), due_at: at(2), claimed_at: at(1), completed_at: at(3) }).map((one) => one.kind), ["window", "thinking"]);
});

test("what needs a person comes worst first", () => {
  const calm = { status: { paused: false, failed_count: 0, undelivered_count: 0 }, workers: [{}], sees_workers: true, oldest_due_s: 1 };
  assert.deepEqual(needsOf(calm), []);
  const bad = { status: { paused: true, failed_count: 1, undelivered_count: 2 }, workers: [], sees_workers: true, oldest_due_s: 90 };
  assert.deepEqual(needsOf(bad).map(([title]) => title), ["The queue is paused", "No worker is registered", "1 message failed", "2 replies were not delivered"]);
});

function answeredByHand() {
  const open = new Map();
  globalThis.fetch = (address) => new Promise((resolve) => open.set(new URL(address, "http://ops").searchParams.get("q"), resolve));
  return (needle, ...hits) => open.get(needle)(new Response(JSON.stringify({ hits }), { headers: { "content-type": "application/json" } }));
}

const searching = (needle) => search.load({ query: new URLSearchParams({ q: needle }) }, { overview: { has_audit: false } });

test("the answer to an earlier search does not replace that of a later one", async () => {
  const answer = answeredByHand();
  const first = searching("i am");
  const second = searching("i am gam");
  answer("i am gam", "gamma");
  assert.deepEqual((await second).found.hits, ["gamma"]);
  answer("i am", "alpha", "beta", "gamma");
  await first;
  assert.deepEqual((await searching("i am gam")).found.hits, ["gamma"]);
});

test("a search that failed is made again", async () => {
  globalThis.fetch = () => Promise.reject(new TypeError());
  await assert.rejects(searching("order"));
  const answer = answeredByHand();
  const again = searching("order");
  answer("order", "a hit");
  assert.deepEqual((await again).found.hits, ["a hit"]);
});
