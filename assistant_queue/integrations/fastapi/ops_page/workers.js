// The workers that are registered.

import { h } from "./dom.js";
import { ago, count, many } from "./format.js";
import { empty, heading } from "./parts.js";

export const load = async () => ({}); // they are in the overview, which every view reads

export function draw(_, { overview, now }) {
  const { workers, sees_workers: sees } = overview;
  const busy = workers.reduce((sum, one) => sum + one.running, 0);
  const slots = workers.reduce((sum, one) => sum + one.concurrency, 0);
  return [
    heading("Workers", h("p", { class: "soft" }, workers.length ? `${many(workers.length, "worker")}, ${count(busy)} of ${many(slots, "slot")} busy` : "")),
    workers.length
      ? h(
          "table",
          { class: "list" },
          h("thead", {}, h("tr", {}, ["Worker", "Busy", "Seen", "Abandoned calls"].map((name, place) => h("th", { scope: "col", class: place % 2 ? "number" : null }, name)))),
          h("tbody", {}, workers.map((one) => h("tr", { "data-key": one.name }, h("td", { class: "main-cell id" }, one.name), h("td", { class: "number" }, h("span", { class: "unseen-wide" }, "Busy "), `${count(one.running)} of ${count(one.concurrency)}`), h("td", {}, h("span", { class: "unseen-wide" }, "Seen "), ago(one.seen_at, now)), h("td", { class: "number" }, h("span", { class: "unseen-wide" }, "Abandoned calls "), count(one.abandoned_calls))))),
        )
      : sees
        ? empty("No worker is registered", "Start one: assistant-queue worker")
        : empty("The workers cannot be read", "The service's user of Redis may not read RQ's records of them; docs/production.md has the rights."),
  ];
}
