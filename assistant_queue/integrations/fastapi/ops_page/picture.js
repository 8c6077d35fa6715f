// The timeline of a batch as a picture: from the first message to the delivery, each phase as wide as it was long.

import { h, s } from "./dom.js";
import { between, moment, ms, span, words } from "./format.js";

const PHASES = [
  ["window", "queued_at", "due_at", "Window"],
  ["line", "due_at", "claimed_at", "In line"],
  ["sending", "claimed_at", "sent_at", "Prepared"],
  ["thinking", "sent_at", "first_token_at", "First token"],
  ["writing", "first_token_at", "completed_at", "Answer"],
  ["delivering", "completed_at", "delivered_at", "Delivery"],
];
const HEIGHT = 22;
const LEAST = 0.8; // percent: what took no time is still seen

// Phases with times: a missing one belongs to the phase before it.
export function phasesOf(timeline, endedAt = null) {
  const found = [];
  let from = timeline.queued_at ?? timeline.claimed_at;
  for (const [kind, , to, name] of PHASES) {
    let until = timeline[to];
    if (to === "completed_at") until ??= endedAt;
    if (!until || !from || ms(until) < ms(from)) continue;
    const isSilent = kind === "writing" && !timeline.first_token_at; // it failed, or its text is not streamed
    found.push({ kind: isSilent ? "thinking" : kind, name: isSilent ? "Model" : name, from, until, seconds: between(from, until) });
    from = until;
  }
  return found;
}

export function picture(timeline, { endedAt = null, now = null, label }) {
  const phases = phasesOf(timeline, endedAt);
  if (now && (phases.length || timeline.queued_at)) {
    const last = phases.at(-1)?.until ?? timeline.queued_at;
    const kind = PHASES[PHASES.findIndex(([one]) => one === phases.at(-1)?.kind) + 1]?.[0] ?? "window";
    const until = new Date(now).toISOString();
    if (ms(until) > ms(last)) phases.push({ kind, name: `${PHASES.find(([one]) => one === kind)[3]} (now)`, from: last, until, seconds: between(last, until) });
  }
  if (!phases.length) return null;
  const start = ms(phases[0].from);
  const total = Math.max(ms(phases.at(-1).until) - start, 1);
  const widths = phases.map((one) => Math.max((100 * one.seconds * 1000) / total, LEAST));
  const scale = 100 / widths.reduce((sum, width) => sum + width, 0);
  let left = 0;
  const bars = phases.map((one, place) => {
    const width = widths[place] * scale;
    const bar = s("rect", { class: `phase phase-${one.kind}`, x: left, y: 5, width: Math.max(width - 0.25, 0.2), height: HEIGHT - 10, rx: 0.4 }, s("title", {}, `${one.name}: ${span(one.seconds)}`));
    left += width;
    return bar;
  });
  const marks = (timeline.attempts ?? []).slice(0, 50).map((one) => {
    const at = Math.min(Math.max((100 * (ms(one.started_at) - start)) / total, 0), 100);
    return s("line", { class: one.error ? "attempt bad" : "attempt", x1: at, x2: at, y1: 0, y2: HEIGHT }, s("title", {}, `Attempt ${one.number}, ${moment(one.started_at)}${one.error ? `: ${words(one.error.code)}` : ""}`));
  });
  const said = `${label}: ${phases.map((one) => `${one.name} ${span(one.seconds)}`).join(", ")}`;
  return h(
    "div",
    { class: "picture" },
    s("svg", { viewBox: `0 0 100 ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said }, bars, marks),
    h(
      "ol",
      { class: "phases" },
      phases.map((one) => h("li", {}, h("i", { class: `swatch phase-${one.kind}`, "aria-hidden": "true" }), `${one.name} `, h("b", {}, span(one.seconds)))),
    ),
  );
}
