// The page: who am I, which room, and what goes where.

import { Composer } from "./compose.js";
import { Outbox, request, Stream } from "./net.js";
import { initials } from "./rows.js";
import { Own } from "./own.js";
import { apply, initial, lastOpen, refuse, remember, say, sendAgain, underWay } from "./state.js";
import { View } from "./view.js";

const by = (id) => document.getElementById(id);
const HISTORY_PATIENCE = 2000;
const PAGE = 40;

// The service may be below a path of a proxy or of another app; this file is in `page/` below its root, wherever that is.
const root = new URL("../", import.meta.url);
const settings = await (await fetch(new URL("page/settings.json", root))).json();
const api = new URL(settings.api, root).href;
const room = roomOf(location.pathname) || "lobby";
const address = `${api}/threads/${encodeURIComponent(room)}`;
const state = initial();
let isDue = false;

// An address that was cut in the middle of a letter is still a room's: the room that it spells.
function roomOf(path) {
  const name = path.startsWith(root.pathname) ? path.slice(root.pathname.length).replace(/^room\//, "") : "";
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

const view = new View(
  { assistant: settings.assistant, room, windowS: settings.window_s },
  {
    older: moreHistory,
    retry,
    stop,
    edit: (id) => own.edit(id),
    takeBack: (id) => own.takeBack(id),
    answerNow: (id) => own.answerNow(id),
    sendAgain: (id) => own.sendAgain(id),
    writeAgain: (id) => own.writeAgain(id),
    settle,
  },
);

function changed() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    view.draw(state);
    view.tick(state, Date.now());
  });
}

// --- the name -----------------------------------------------------------------------------------------------------------

const stored = {
  get: (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },
  set: (key, value) => {
    try {
      localStorage.setItem(key, value);
    } catch {
      // Asked again next time.
    }
  },
};

// What the service takes as a name: printable, on one line. Marks of direction come with keyboards, unseen.
const nameOf = (typed) => typed.replace(/(?![\s\u200c\u200d])[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, "").split(/\s+/u).join(" ").trim();

function askName() {
  by("nickname").value = view.me ?? stored.get("nickname") ?? "";
  by("naming").showModal();
  by("nickname").select();
}

by("naming").addEventListener("cancel", (event) => !view.me && event.preventDefault());
// A second Escape is let through by browsers, whatever the first was told.
by("naming").addEventListener("close", () => (view.me ? by("text").focus() : askName()));
by("naming-form").addEventListener("submit", (event) => {
  const name = nameOf(by("nickname").value);
  if (!name) {
    by("nickname").value = "";
    event.preventDefault();
    return;
  }
  stored.set("nickname", name);
  if (view.me) {
    // The stream carries the name: it is opened anew, and goes on where it was.
    stream.name = name;
    stream.open();
  }
  begin(name);
});
by("me").addEventListener("click", askName);

// --- the stream and the outbox ------------------------------------------------------------------------------------------

const stream = new Stream(address, "", {
  onEvent: (event) => {
    if (event.type === "closed") view.problem(event.code === "not_allowed" || event.code === "not_authenticated" ? event.detail : null);
    if (event.type === "interrupt_refused") own.refused(event.reason);
    apply(state, event, Date.now());
    if (event.type === "events_missed") startOver();
    if (event.type === "caught_up") {
      askForPerson();
      askForCalls();
    }
    if (event.type === "batch_dead_lettered" || event.type === "batch_parked") askForFallback(event);
    if (event.type === "message_queued") outbox.drop(event.message_id);
    own.checkEdit();
    changed();
  },
  onState: (now) => view.connection(now),
});

// Services below two paths of one origin share the browser's memory.
const outbox = new Outbox(address, `outbox ${root.pathname === "/" ? room : root.pathname + room}`, {
  onTaken: () => view.problem(null),
  onRefused: (id, problem) => {
    refuse(state, id, problem);
    if (problem.until) {
      view.problem("You are writing faster than this service takes it. What you wrote is sent in a moment.");
      setTimeout(() => {
        sendAgain(state, id);
        view.problem(null);
        changed();
      }, problem.until - Date.now());
    }
    changed();
  },
});

// A batch that failed may have words for people all the same; events do not carry them.
async function askForFallback({ batch_id, message_ids }) {
  const answer = await request(`${address}/messages/${encodeURIComponent(message_ids[0])}`).catch(() => null);
  if (!answer?.ok) return;
  const message = await answer.json();
  if (message.is_fallback && message.batch_id === batch_id) apply(state, { type: "fallback", batch_id, reply: message.reply }, Date.now());
  changed();
}

// The event may not be kept any more; one that comes while this asks knows better.
async function askForPerson() {
  const before = state.takeovers;
  const answer = await request(address).catch(() => null);
  if (!answer?.ok) return;
  const { taken_over_by: person } = await answer.json();
  if (state.takeovers !== before) return;
  state.person = person;
  changed();
}

async function askForCalls() {
  const answer = await request(`${address}/approvals`).catch(() => null);
  const calls = answer?.ok ? (await answer.json()).approvals : null;
  apply(state, { type: "calls_read", calls, decides: Boolean(calls) }, Date.now());
  changed();
}

async function settle(callId, how) {
  const answer = await request(`${address}/approvals/${encodeURIComponent(callId)}/${how}`, "POST", { by: view.me }).catch(() => null);
  if (answer?.ok) return; // the event says what became of it
  const words = { 403: "You may not decide this.", 404: "It does not wait any more." };
  view.notice(answer ? (words[answer.status] ?? "That did not work.") : "There is no connection. Try again in a moment.");
  if (answer?.status === 404) askForCalls();
}

async function startOver() {
  await moreHistory();
  stream.last = "0";
  stream.open();
}

let hasBegun = false;

async function begin(name) {
  view.me = name;
  by("me").textContent = initials(name);
  by("me").setAttribute("aria-label", `${initials(name)}: you are ${name}. Change your name.`); // what is seen is part of it: people say it
  by("me").title = name;
  changed();
  by("text").focus();
  if (hasBegun) return;
  hasBegun = true;
  view.connection("connecting");
  // First what the provider keeps, then what happens: so nothing falls between the two.
  await Promise.race([moreHistory(), new Promise((resolve) => setTimeout(resolve, HISTORY_PATIENCE))]);
  for (const message of outbox.waiting) say(state, message);
  stream.name = name;
  stream.open();
  outbox.send();
  setInterval(() => view.tick(state, Date.now()), 200);
}

async function moreHistory() {
  try {
    const query = new URLSearchParams({ limit: String(PAGE), ...(state.more ? { after: state.more } : {}) });
    const answer = await request(`${address}/messages?${query}`);
    if (answer.ok) remember(state, await answer.json());
  } catch {
    // What happened lately comes with the stream.
  }
  changed();
}

// --- an answer ----------------------------------------------------------------------------------------------------------

async function stop() {
  const batch = underWay(state);
  if (!batch) return;
  view.stopping = batch.id;
  changed();
  const answer = await request(`${address}/stop`, "POST").catch(() => null);
  if (answer?.ok) return; // the event says what became of it
  view.stopping = null;
  const problem = await answer?.json().catch(() => null);
  view.notice(answer ? `It was not stopped. ${problem?.detail ?? ""}`.trim() : "There is no connection. Try again in a moment.");
  changed();
}

async function retry(batchId) {
  const answer = await request(`${api}/failed/${encodeURIComponent(batchId)}/retry`, "POST").catch(() => null);
  view.problem(answer?.ok || answer?.status === 404 ? null : "Somebody who runs this service can have it tried again.");
}

// --- writing ------------------------------------------------------------------------------------------------------------

const composer = new Composer({
  limits: settings.files,
  onTrouble: (text) => (text ? view.notice(text) : view.problem(null)),
  onSay: (said) => {
    const message = { author: view.me, ...said };
    say(state, message);
    outbox.add(message);
    view.follows = true;
    changed();
  },
  onEdit: (id, text) => own.saveEdit(id, text),
  onTyping: () => request(`${address}/typing`, "POST", { author: view.me }).catch(() => {}),
  lastOpen: () => lastOpen(state, view.me),
});
const own = new Own({ address, state, view, outbox, composer, changed });

by("share").addEventListener("click", async () => {
  const label = by("share").textContent;
  try {
    await navigator.clipboard.writeText(location.href);
    by("share").textContent = "Copied";
  } catch {
    by("share").textContent = "Copy the address";
  }
  setTimeout(() => (by("share").textContent = label), 2000);
});

const name = nameOf(stored.get("nickname") ?? "");
if (name) begin(name);
else askName();
