// The operations page: the address says which view, the view reads and is drawn, and is read again every two seconds.
//
// A view is a module with `load(route, shared)` and `draw(data, shared)`. A further one (approvals) is a line in VIEWS.

import { connect, perform, read } from "./api.js";
import * as approvals from "./approvals.js";
import { readout } from "./charts.js";
import { h, morph } from "./dom.js";
import * as failed from "./failed.js";
import { count, many, words } from "./format.js";
import * as overview from "./overview.js";
import { empty, heading } from "./parts.js";
import * as records from "./records.js";
import * as search from "./search.js";
import * as thread from "./thread.js";
import * as threads from "./threads.js";
import * as workers from "./workers.js";

const VIEWS = [
  { path: "", name: "Overview", view: overview },
  { path: "threads", name: "Threads", view: threads, badge: () => null },
  { path: "approvals", name: "Approvals", view: approvals },
  { path: "failed", name: "Failed", view: failed, badge: ({ status }) => status.failed_count },
  { path: "parked", name: "Parked", view: failed },
  { path: "undelivered", name: "Undelivered", view: failed, badge: ({ status }) => status.undelivered_count },
  { path: "workers", name: "Workers", view: workers },
  { path: "record", name: "Record", view: records },
];
const EVERY = 2000;
/** Milliseconds after which a view that is still read says so instead of showing the one before. */
const SLOW = 200;
const PATIENCE = 250;
const SAID_FOR = 4000;

const by = (id) => document.getElementById(id);
const shared = { overview: null, mayChange: false, now: Date.now(), redraw: () => draw() };
let route = null;
let data = null;
let problem = null;
let skew = 0;
let reading = 0;

// --- where ----------------------------------------------------------------------------------------------------------

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function routeOf(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  const id = rest.length ? decoded(rest.join("/")) : null;
  const found = { hash, view, id, query: new URLSearchParams(query) };
  if (view === "threads" && id) return { ...found, module: thread, title: id };
  if (view === "search") return { ...found, module: search, title: "Search" };
  const known = VIEWS.find((one) => one.path === view);
  return known ? { ...found, module: known.view, title: known.name } : { ...found, module: null, title: "Not found" };
}

async function go() {
  const before = route;
  route = routeOf(location.hash);
  data = null;
  problem = null;
  if (route.view !== "search") by("needle").value = "";
  else if (document.activeElement !== by("needle")) by("needle").value = route.query.get("q") ?? "";
  document.title = `${route.title} · Operations`;
  drawNav();
  if (!route.module) return draw();
  document.documentElement.dataset.loaded = "no";
  const wanted = route;
  const slow = setTimeout(() => wanted === route && data === null && !problem && draw(), SLOW);
  await refresh();
  clearTimeout(slow);
  if (before) {
    scrollTo(0, 0);
    if (document.activeElement === document.body || !document.activeElement?.isConnected) by("view").focus({ preventScroll: true });
  }
}

addEventListener("hashchange", go);

// --- reading and drawing --------------------------------------------------------------------------------------------

async function refresh() {
  const mine = ++reading;
  const wanted = route;
  try {
    const overview = readOverview();
    if (!shared.overview) await overview; // views read it while they load
    const [found] = await Promise.all([wanted.module ? wanted.module.load(wanted, shared) : null, overview]);
    if (mine !== reading || wanted !== route) return;
    data = found;
    problem = null;
  } catch (error) {
    if (mine !== reading || wanted !== route) return;
    problem = error;
  }
  draw();
}

async function readOverview() {
  shared.overview = await read("overview");
  shared.mayChange = shared.overview.operator.may_change;
  skew = Date.parse(shared.overview.at) - Date.now();
}

function draw() {
  shared.now = Date.now() + skew;
  const fresh = h("main", {}, content());
  morph(by("view"), fresh);
  drawNav();
  drawState();
}

function content() {
  if (!route.module) return [heading("Not found"), empty("There is no such view", route.hash)];
  if (problem && (data === null || problem.status === 401 || problem.status === 403)) return [heading(route.title), empty(problem.status === 401 || problem.status === 403 ? "This is not for you" : "This cannot be shown", problem.message)];
  if (data === null) return [heading(route.title), h("p", { class: "soft" }, "Reading…")];
  return route.module.draw(data, shared);
}

function drawNav() {
  morph(
    by("nav"),
    h(
      "ul",
      {},
      VIEWS.map(({ path, name, badge }) => {
        const number = shared.overview && badge ? badge(shared.overview) : 0;
        return h("li", { "data-key": path || "overview" }, h("a", { href: `#/${path}`, "aria-current": route.view === path ? "page" : null }, name, number > 0 && h("span", { class: "nav-count" }, count(number))));
      }),
    ),
  );
}

function drawState() {
  const seen = shared.overview;
  const [state, text] = problem ? ["bad", problem.status ? "Refused" : "No answer"] : seen?.status.paused ? ["warn", "Paused"] : ["good", "Live"];
  by("state").dataset.state = state;
  if (by("state-text").textContent !== text) by("state-text").textContent = text;
  document.documentElement.dataset.loaded = data !== null || problem ? "yes" : "no";
  if (!seen) return;
  by("queue").textContent = seen.queue;
  by("me").textContent = `${seen.operator.name ? `You are ${seen.operator.name}` : "You have no name here"}${seen.operator.may_change ? "" : ", and may only read"}.`;
}

async function poll() {
  if (!document.hidden && route?.module && !by("ask").open) await refresh();
  setTimeout(poll, EVERY);
}

document.addEventListener("visibilitychange", () => !document.hidden && route && refresh());

// --- changes --------------------------------------------------------------------------------------------------------

let saidTimer = null;

function say(text, isBad = false) {
  const place = by("said");
  place.textContent = text;
  place.hidden = false;
  place.classList.toggle("is-bad", isBad);
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => (place.hidden = true), isBad ? 2 * SAID_FOR : SAID_FOR);
}

// Ask before something that cannot be taken back, or for a text. Returns null for no.
function ask({ title, text = "", label = null, yes, isBad = false }) {
  by("ask-title").textContent = title;
  by("ask-text").textContent = text;
  by("ask-text").hidden = !text;
  by("ask-field").hidden = label === null;
  by("ask-label").textContent = label ?? "";
  by("ask-input").value = "";
  by("ask-input").required = label !== null;
  by("ask-yes").textContent = yes;
  by("ask-yes").classList.toggle("bad", isBad);
  const dialog = by("ask");
  dialog.returnValue = "";
  dialog.showModal();
  (label === null ? by("ask-yes") : by("ask-input")).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? { text: by("ask-input").value } : null), { once: true });
  });
}

by("ask-no").addEventListener("click", () => by("ask").close());

async function change({ confirm, ask: question, ...wanted }) {
  if (confirm && (await ask(confirm)) === null) return;
  if (question) {
    const answer = await ask(question);
    if (answer === null || !answer.text.trim()) return;
    wanted.text = answer.text;
  }
  try {
    const done = await perform(wanted);
    const number = done.count === null ? "" : `: ${many(done.count, "batch", "batches")}`;
    say(done.done ? `Done: ${words(wanted.operation)}${number}` : `There was nothing to ${words(wanted.operation)}`, !done.done);
    failed.selected.clear();
  } catch (error) {
    say(error.message, true);
  }
  await refresh();
}

document.addEventListener("click", async (event) => {
  const wish = event.target.closest("[data-do]");
  if (wish) {
    await change(JSON.parse(wish.dataset.do));
    return;
  }
  if (event.target.closest("[data-copy]")) {
    await navigator.clipboard?.writeText(location.href).then(
      () => say("The link is copied"),
      () => say("The browser did not let the link be copied", true),
    );
    return;
  }
  const row = event.target.closest(".tile, .list tbody tr");
  if (row && !event.target.closest("a, button, input") && !String(getSelection())) row.querySelector("a.row-link")?.click();
});

document.addEventListener("pointermove", (event) => readout(event.target.closest?.(".plot"), event.clientX));

document.addEventListener("change", ({ target }) => {
  const which = target.dataset.choose;
  if (which === undefined || !data?.failed) return;
  for (const id of which === "all" ? data.failed.map((one) => one.batch_id) : [which]) {
    if (target.checked) failed.selected.add(id);
    else failed.selected.delete(id);
  }
  draw();
});

// --- search and keys ------------------------------------------------------------------------------------------------

let typing = null;

by("needle").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(lookFor, PATIENCE);
});

by("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search.forget();
  lookFor();
  if (route.view === "search") refresh();
});

function lookFor() {
  const needle = by("needle").value.trim();
  if (!needle) return;
  const hash = `#/search?q=${encodeURIComponent(needle)}`;
  if (location.hash === hash) return;
  if (route.view === "search") {
    history.replaceState(null, "", hash);
    go();
  } else location.hash = hash;
}

function move(by_) {
  const rows = [...by("view").querySelectorAll("a.row-link")];
  const at = rows.indexOf(document.activeElement);
  const next = rows[at < 0 ? (by_ > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by_, 0), rows.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || by("ask").open) return;
  const isTyping = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape") {
    if (isTyping) return event.target.blur();
    if (route.view === "threads" && route.id) return history.length > 1 ? history.back() : (location.hash = "#/threads");
    if (route.view) location.hash = "#/";
    return;
  }
  if (event.key === "ArrowDown" && event.target === by("needle")) {
    event.preventDefault();
    return move(1);
  }
  if (isTyping) return;
  if (event.key === "/") {
    event.preventDefault();
    by("needle").focus();
    by("needle").select();
  } else if (event.key === "j" || event.key === "k" || (event.target.closest("a.row-link") && (event.key === "ArrowDown" || event.key === "ArrowUp"))) {
    event.preventDefault();
    move(event.key === "j" || event.key === "ArrowDown" ? 1 : -1);
  }
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  by("view").focus();
});

await connect();
await go();
poll();
