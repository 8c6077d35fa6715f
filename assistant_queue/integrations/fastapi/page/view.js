// Draws the state: the rows of the conversation, and what is around it.

import { spoken } from "./markdown.js";
import { element } from "./rich.js";
import { avatar, Row, wordsToAsk } from "./rows.js";
import { promotable, replyOf, underWay, whoTypes, windowText } from "./state.js";
import { withDays } from "./times.js";

const by = (id) => document.getElementById(id);
const CLOSE_TO_THE_END = 120;
const JOINED_MS = 300000; // a message that follows later has its own head
const NOTICE_MS = 8000;

export class View {
  constructor({ assistant, room, windowS }, actions) {
    Object.assign(this, { assistant, room, windowS, actions });
    this.stopping = null; // the batch that was asked to stop
    this.me = null;
    this.drawn = new Map(); // key -> Row
    this.announced = new Set();
    this.follows = true;
    this.scrolledTo = 0;
    this.scroll = by("scroll");
    by("room").textContent = room;
    by("naming-room").textContent = room;
    document.title = room;
    this.scroll.addEventListener("scroll", () => {
      // Only scrolling up leaves the end: a field that grows moves the end away, too.
      const { scrollTop } = this.scroll;
      if (this.fromEnd() < CLOSE_TO_THE_END) this.follows = true;
      else if (scrollTop < this.scrolledTo) this.follows = false;
      this.scrolledTo = scrollTop;
      if (this.follows) by("jump").hidden = true;
    });
    by("jump").addEventListener("click", () => this.toEnd(true));
    by("older").addEventListener("click", () => actions.older());
    by("stop").addEventListener("click", () => actions.stop());
    new ResizeObserver(() => this.follows && this.toEnd()).observe(this.scroll);
  }

  fromEnd() {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight;
  }

  toEnd(smooth = false) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.scroll.scrollTo({ top: this.scroll.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
    this.follows = true;
    by("jump").hidden = true;
  }

  draw(state) {
    const list = by("items");
    const rows = withDays(rowsOf(state, promotable(state, this.me)), Date.now());
    const before = this.scroll.scrollHeight;
    const wasAtTop = this.scroll.scrollTop;
    let grewAbove = false;
    let previous = null;
    const seen = new Set();
    rows.forEach((row, place) => {
      let known = this.drawn.get(row.key);
      if (!known) {
        known = new Row(this);
        this.drawn.set(row.key, known);
        if (row.key.startsWith("older")) grewAbove = true;
      }
      known.draw(row, joined(previous, row));
      if (list.children[place] !== known.node) list.insertBefore(known.node, list.children[place] ?? null);
      seen.add(row.key);
      previous = row;
    });
    for (const [key, { node }] of this.drawn) {
      if (!seen.has(key)) {
        node.remove();
        this.drawn.delete(key);
      }
    }
    by("empty").hidden = rows.length > 0 || !state.caughtUp;
    by("older").hidden = !state.more;
    if (this.follows) this.toEnd();
    else if (grewAbove) this.scroll.scrollTop = wasAtTop + this.scroll.scrollHeight - before;
    else if (this.scroll.scrollHeight > before + 4) by("jump").hidden = false;
    this.drawStop(underWay(state));
    this.drawPeople(state.people);
    this.drawPerson(state.person);
    if (state.caughtUp) this.announce(state);
  }

  drawStop(batch) {
    const hadFocus = document.activeElement === by("stop");
    by("stop").hidden = !batch;
    by("stop").disabled = Boolean(batch) && this.stopping === batch.id;
    by("stop").setAttribute("aria-label", by("stop").disabled ? "Stopping…" : "Stop the answer");
    if (hadFocus && (by("stop").hidden || by("stop").disabled)) by("text").focus();
  }

  // --- around the conversation -------------------------------------------------------------------------------------------

  drawPerson(name) {
    const text = name ? `${name} answers here now.` : "";
    if (by("person").textContent !== text) by("person").textContent = text;
    by("person").hidden = !name;
  }

  drawPeople(people) {
    const look = JSON.stringify(people);
    if (this.peopleLook === look) return;
    this.peopleLook = look;
    const shown = people.slice(0, 5);
    const list = by("people");
    list.replaceChildren(
      ...shown.map((name) => {
        const item = element("li");
        item.title = name;
        item.append(avatar(name), element("span", name, "unseen"));
        return item;
      }),
    );
    if (people.length > shown.length) {
      const item = element("li", `+${people.length - shown.length}`, "more");
      item.title = people.slice(shown.length).join(", ");
      list.append(item);
    }
  }

  // What changes by itself: the window that fills, and who types. Called a few times a second.
  tick(state, now) {
    const told = windowText(state, now);
    by("window").hidden = told === null;
    if (told) {
      if (by("window-text").textContent !== told.text) by("window-text").textContent = told.text;
      const whole = Math.max(this.windowS * 1000, 1);
      const share = told.left === null ? 0 : 1 - Math.min(1, told.left / whole);
      by("window-fill").style.setProperty("--share", share.toFixed(3));
    }
    const people = whoTypes(state, this.me, now);
    const text = { 0: "", 1: `${people[0]} is typing`, 2: `${people[0]} and ${people[1]} are typing` }[people.length] ?? "Several people are typing";
    if (by("typing").textContent !== text) {
      by("typing").textContent = text;
      if (this.follows) this.toEnd();
    }
  }

  connection(state) {
    const words = { connecting: "Connecting…", open: "Live", lost: "Reconnecting…", offline: "Offline" };
    document.documentElement.dataset.connection = state;
    if (by("connection-text").textContent !== words[state]) by("connection-text").textContent = words[state];
  }

  problem(text) {
    clearTimeout(this.noticeTimer);
    by("trouble").hidden = !text;
    by("trouble").textContent = text ?? "";
  }

  // What need not stay.
  notice(text) {
    this.problem(text);
    this.noticeTimer = setTimeout(() => this.problem(null), NOTICE_MS);
  }

  // For those who listen: whole messages and whole answers, each once, and nothing of what was there before.
  announce(state) {
    const isFirst = this.announced.size === 0;
    const fresh = [];
    for (const item of state.items) {
      const key = `${item.kind} ${item.id}`;
      if (this.announced.has(key)) continue;
      if (item.kind === "message" && !item.mine && item.author !== this.me) fresh.push([key, `${item.author ?? "Somebody"}: ${wordsOf(item)}`]);
      else if (item.kind === "batch" && item.status === "done") fresh.push([key, `${item.author ?? this.assistant}: ${replyOf(item).map(spoken).join(" ")}`]);
      else if (item.kind === "batch" && item.asks?.some((ask) => !ask.verdict) && !this.announced.has(`asks ${item.id}`)) fresh.push([`asks ${item.id}`, wordsToAsk(item.asks.find((ask) => !ask.verdict))]);
      else if (item.kind === "batch" && item.status === "failed") fresh.push([key, "No answer."]);
      else if (item.kind === "batch" && item.status === "stopped") fresh.push([key, "Stopped."]);
      else if (item.kind === "message") this.announced.add(key);
    }
    this.announced.add("begun");
    for (const [key, text] of fresh) {
      this.announced.add(key);
      if (!isFirst) by("said").append(element("p", text));
    }
    while (by("said").children.length > 20) by("said").firstChild.remove();
  }
}

function rowsOf(state, joining) {
  return [
    ...state.older.map((row) => ({ ...row, key: `older ${row.id}`, kind: row.role === "user" ? "message" : "said", status: "answered" })),
    ...(state.missed ? [{ key: "gap", kind: "gap", text: "Some of what happened here is not kept any more." }] : []),
    ...state.items.map((item) => ({ ...item, decides: Boolean(item.asks) && state.decides, canJoin: item === joining, key: `${item.kind} ${item.id}`, at: item.at ?? item.readyAt ?? item.claimedAt })),
  ];
}

// A message as it is read aloud.
function wordsOf({ text, files }) {
  return [text, ...(files?.list ?? []).map((file) => file.name)].filter(Boolean).join(", ");
}

// A message of the same author, soon after the one above it, stands below the same name.
function joined(previous, row) {
  if (previous?.kind !== "message" || row.kind !== "message" || previous.author !== row.author) return false;
  return !(previous.at && row.at) || Date.parse(row.at) - Date.parse(previous.at) < JOINED_MS;
}
