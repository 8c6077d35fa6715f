// Days of a conversation, in the zone that the test is run in.

import assert from "node:assert/strict";
import { test } from "node:test";

const { dayName, withDays } = await import(`${process.env.PAGE}/times.js`);

const NOW = Date.parse("2026-03-02T16:00:00Z"); // 3 March, 1:00 in Tokyo
const row = (key, at) => ({ key, kind: "message", at });
const shown = (rows) => withDays(rows, NOW).map((one) => one.text ?? one.key);

test("a conversation of today needs no day", () => {
  assert.deepEqual(shown([row("a", "2026-03-02T15:30:00Z"), row("b", "2026-03-02T15:50:00Z")]), ["a", "b"]);
});

test("a day begins where the reader's clock begins it", () => {
  const rows = [row("a", "2026-02-20T12:00:00Z"), row("b", "2026-03-02T14:59:00Z"), row("c", undefined), row("d", "2026-03-02T15:01:00Z")];
  const [first, ...others] = shown(rows);
  assert.match(first, /20/);
  assert.deepEqual(others, ["a", "Yesterday", "b", "c", "Today", "d"]);
});

test("a day of another year has its year", () => {
  assert.match(dayName("2024-05-01T12:00:00Z", NOW), /2024/);
  assert.doesNotMatch(dayName("2026-02-01T12:00:00Z", NOW), /2026/);
});
