// Small charts of our own: lines over time, and bars. Each is an image with a sentence for screen readers.

import { h, s } from "./dom.js";
import { clock, ms } from "./format.js";

const WIDTH = 300;
const HEIGHT = 84;

const shown = new Map(); // id -> what its readout needs

// series: [{name, kind: "line" | "area" | "bar", tone, values}]; a value of null is a gap. times: ISO, the end of each value.
export function chart({ id, title, unit, times, series, format, from }) {
  const known = series.flatMap((one) => one.values).filter((value) => value !== null && value !== undefined);
  const top = niceTop(Math.max(0, ...known));
  const end = ms(times.at(-1)) ?? Date.now();
  const start = from ?? ms(times[0]) ?? end - 1;
  const x = (time) => (WIDTH * Math.max(ms(time) - start, 0)) / Math.max(end - start, 1);
  const y = (value) => HEIGHT - (HEIGHT * value) / top;
  const latest = series.map((one) => ({ ...one, last: one.values.findLast((value) => value !== null && value !== undefined) }));
  shown.set(id, { times, series, format, start, end });
  const said = `${title}: ${latest.map((one) => `${one.name} ${one.last === undefined ? "unknown" : format(one.last)}`).join(", ")}; at most ${format(Math.max(0, ...known))}${unit ? ` ${unit}` : ""}`;
  return h(
    "figure",
    { class: "chart", "data-key": id, "data-chart": id },
    h(
      "figcaption",
      {},
      h("span", { class: "chart-title" }, title),
      h(
        "span",
        { class: "chart-now" },
        latest.map((one) => h("span", { class: `legend tone-${one.tone}` }, h("i", { "aria-hidden": "true" }), `${one.name} `, h("b", {}, one.last === undefined ? "–" : format(one.last)))),
      ),
    ),
    h(
      "div",
      { class: "plot" },
      s(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said },
        [0, 0.5, 1].map((share) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * share, y2: HEIGHT * share })),
        series.map((one) => shape(one, times, x, y)),
      ),
      h("span", { class: "axis-top", "aria-hidden": "true" }, `${format(top)}${unit ? ` ${unit}` : ""}`),
    ),
    h("div", { class: "axis", "aria-hidden": "true" }, h("span", {}, clock(new Date(start))), h("span", {}, clock(new Date((start + end) / 2))), h("span", {}, "now")),
  );
}

// Show the values at a place of a chart; without an element of a chart take the readout away.
export function readout(plot, clientX) {
  document.querySelector(".readout")?.remove();
  const known = shown.get(plot?.closest("[data-chart]")?.dataset.chart);
  if (!known?.times.length) return;
  const { left, width } = plot.getBoundingClientRect();
  const wanted = known.start + ((clientX - left) / width) * (known.end - known.start);
  const distances = known.times.map((time) => Math.abs(ms(time) - wanted));
  const place = distances.indexOf(Math.min(...distances));
  const at = (ms(known.times[place]) - known.start) / Math.max(known.end - known.start, 1);
  const values = known.series.map((one) => `${one.name} ${one.values[place] === null || one.values[place] === undefined ? "–" : known.format(one.values[place])}`);
  const made = h("span", { class: at > 0.6 ? "readout is-right" : "readout", "aria-hidden": "true" }, h("b", {}, clock(new Date(known.times[place]))), ` ${values.join(", ")}`);
  made.style.left = `${(100 * Math.min(Math.max(at, 0), 1)).toFixed(1)}%`;
  plot.append(made);
}

function shape(one, times, x, y) {
  if (one.kind === "bar") {
    const width = Math.max(WIDTH / Math.max(times.length, 24) - 1.2, 1);
    return one.values.map((value, place) => (value ? s("rect", { class: `bar tone-${one.tone}`, x: Math.max(x(times[place]) - width, 0), y: y(value), width, height: HEIGHT - y(value) }) : null));
  }
  const parts = [];
  for (const [place, value] of one.values.entries()) {
    if (value === null || value === undefined) continue;
    const isNew = place === 0 || one.values[place - 1] === null || one.values[place - 1] === undefined;
    if (isNew) parts.push([]);
    parts.at(-1).push([x(times[place]), y(value)]);
  }
  return parts.map((points) => {
    const all = points.length === 1 ? [[Math.max(points[0][0] - 3, 0), points[0][1]], points[0]] : points;
    const line = all.map(([px, py], place) => `${place ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
    const area = `${line}L${all.at(-1)[0].toFixed(1)} ${HEIGHT}L${all[0][0].toFixed(1)} ${HEIGHT}Z`;
    return [one.kind === "area" && s("path", { class: `area tone-${one.tone}`, d: area }), s("path", { class: `line tone-${one.tone}`, d: line })];
  });
}

// The next of 1, 2, 5, 10, 20 ... above a value.
export function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}
