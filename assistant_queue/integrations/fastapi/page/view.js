// Draws the state. Whatever people or the model wrote becomes text, never markup.

import { spoken } from "./markdown.js";
import { element, RichText } from "./rich.js";
import { replyOf, whoTypes, windowText } from "./state.js";

const by = (id) => document.getElementById(id);
const CLOSE_TO_THE_END = 120;

export class View {
  constructor({ assistant, room, windowS }, actions) {
    Object.assign(this, { assistant, room, windowS, actions });
    this.me = null;
    this.drawn = new Map(); // key -> {node, look}
    this.announced = new Set();
    this.follows = true;
    this.scroll = by("scroll");
    by("room").textContent = room;
    by("naming-room").textContent = room;
    document.title = room;
    this.scroll.addEventListener("scroll", () => {
      this.follows = this.fromEnd() < CLOSE_TO_THE_END;
      if (this.follows) by("jump").hidden = true;
    });
    by("jump").addEventListener("click", () => this.toEnd(true));
    by("older").addEventListener("click", () => actions.older());
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
    const rows = [
      ...state.older.map((row) => ({ key: `older ${row.id}`, ...row, kind: row.role === "user" ? "message" : "said", status: "answered" })),
      ...(state.missed ? [{ key: "gap", kind: "gap" }] : []),
      ...state.items.map((item) => ({ ...item, key: `${item.kind} ${item.id}` })),
    ];
    const before = this.scroll.scrollHeight;
    const wasAtTop = this.scroll.scrollTop;
    let grewAbove = false;
    let previous = null;
    const seen = new Set();
    rows.forEach((row, place) => {
      const joins = previous?.kind === "message" && row.kind === "message" && previous.author === row.author;
      const look = JSON.stringify([row, joins, this.me, row.mine]);
      let known = this.drawn.get(row.key);
      if (!known) {
        known = { node: element("li"), look: null, said: new RichText() };
        this.drawn.set(row.key, known);
        if (row.key.startsWith("older")) grewAbove = true;
      }
      if (known.look !== look) {
        this.fill(known, row, joins);
        known.look = look;
      }
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
    this.drawPeople(state.people);
    if (state.caughtUp) this.announce(state);
  }

  // --- one row -----------------------------------------------------------------------------------------------------------

  fill(known, row, joins) {
    const { node } = known;
    if (row.kind === "gap") {
      node.className = "gap";
      node.textContent = "Some of what happened here is not kept any more.";
    } else if (row.kind === "message") this.fillMessage(node, row, joins);
    else this.fillReply(known, row);
  }

  fillMessage(node, row, joins) {
    const mine = row.mine || (row.author !== null && row.author === this.me);
    node.replaceChildren();
    node.className = `message ${mine ? "mine" : "theirs"} ${row.status}${joins ? " joins" : ""}`;
    node.dataset.id = row.id;
    if (!mine) node.append(joins ? element("span", "", "avatar-space") : this.avatar(row.author));
    const body = element("div", null, "body");
    if (!joins) body.append(element("span", mine ? "You" : (row.author ?? "Somebody"), mine ? "unseen" : "author"));
    body.append(element("p", row.text, "bubble"));
    const note = this.messageNote(row);
    if (note) body.append(note);
    node.append(body);
  }

  messageNote(row) {
    const words = { sending: "Sending…", cancelled: "Taken back", failed: "Not answered" }[row.status];
    const line = element("span", null, "note");
    if (row.status === "refused") {
      line.append(element("span", row.why?.until ? "Too fast: it is sent again in a moment. " : `Not sent. ${row.why?.detail ?? ""} `));
      const button = element("button", "Take back", "link");
      button.type = "button";
      button.addEventListener("click", () => this.actions.takeBack(row.id));
      line.append(button);
    } else if (words) line.append(words);
    else if (row.edited) line.append("Edited");
    else return null;
    return line;
  }

  // The elements of a reply stay while it is written; only what changed in them is drawn anew.
  fillReply(known, row) {
    const { node, said } = known;
    if (!node.firstChild) this.beginReply(known);
    node.className = `reply ${row.status}`;
    node.dataset.id = row.id;
    const [head, tools, , notes] = known.body.children;
    const summary = row.kind === "batch" ? summaryOf(row) : null;
    head.replaceChildren(element("span", this.assistant, "author"), ...(summary ? [element("span", summary, "summary")] : []));
    tools.replaceChildren(...(row.tools ?? []).map(toolLine));
    const isBusy = row.status === "working";
    known.caret?.remove();
    said.update(row.kind === "batch" ? replyOf(row) : [row.text], isBusy);
    known.body.setAttribute("aria-busy", String(isBusy));
    if (isBusy) (said.isEmpty ? known.body : lastOf(said.node)).append((known.caret = caret(!said.isEmpty)));
    notes.replaceChildren(...this.replyNotes(row, said.isEmpty));
  }

  beginReply(known) {
    known.body = element("div", null, "body");
    known.body.append(element("p", null, "head"), element("div", null, "tools"), known.said.node, element("div", null, "notes"));
    known.node.append(element("span", null, "mark"), known.body);
  }

  replyNotes(row, isEmpty) {
    const notes = [];
    if (row.fallback) notes.push(element("p", row.fallback, "fallback"));
    if (row.status === "done" && isEmpty) notes.push(element("p", "Nothing to say to that.", "quietly"));
    if (row.incomplete) notes.push(element("p", "The answer was cut short.", "quietly"));
    if (row.status === "retrying") notes.push(this.trouble(`That did not work (attempt ${row.attempt}). Trying again.`, null));
    if (row.status === "failed") notes.push(this.trouble(`${row.error?.detail ?? "There is no answer."} What you wrote is kept.`, row.id));
    if (row.status === "parked") notes.push(this.trouble("It is not known whether this was answered. A person has to look.", row.id));
    if (row.status === "discarded") notes.push(element("p", "This was given up.", "quietly"));
    return notes;
  }

  trouble(text, batchId) {
    const line = element("p", null, "failure");
    line.append(element("span", text));
    if (batchId) {
      const button = element("button", "Try again", "link");
      button.type = "button";
      button.addEventListener("click", () => this.actions.retry(batchId));
      line.append(" ", button);
    }
    return line;
  }

  avatar(name) {
    const made = element("span", initials(name), "avatar");
    made.setAttribute("aria-hidden", "true");
    made.style.setProperty("--hue", String(hue(name)));
    return made;
  }

  // --- around the conversation -------------------------------------------------------------------------------------------

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
        item.append(this.avatar(name), element("span", name, "unseen"));
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
    by("trouble").hidden = !text;
    by("trouble").textContent = text ?? "";
  }

  // For those who listen: whole messages and whole answers, each once, and nothing of what was there before.
  announce(state) {
    const isFirst = this.announced.size === 0;
    const fresh = [];
    for (const item of state.items) {
      const key = `${item.kind} ${item.id}`;
      if (this.announced.has(key)) continue;
      if (item.kind === "message" && !item.mine && item.author !== this.me) fresh.push([key, `${item.author ?? "Somebody"}: ${item.text}`]);
      else if (item.kind === "batch" && item.status === "done") fresh.push([key, `${this.assistant}: ${replyOf(item).map(spoken).join(" ")}`]);
      else if (item.kind === "batch" && item.status === "failed") fresh.push([key, "No answer."]);
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

function toolLine(tool) {
  const line = element("p", null, `tool ${tool.done ? "done" : "busy"}`);
  line.append(element("span", null, "tool-icon"), element("span", tool.done ? "Used" : "Using"), element("code", tool.name));
  return line;
}

function summaryOf(batch) {
  const count = batch.count > 1 ? `${batch.count} messages, one answer` : null;
  const took = batch.readyAt && batch.claimedAt ? `${((Date.parse(batch.readyAt) - Date.parse(batch.claimedAt)) / 1000).toFixed(1)} s` : null;
  return [count, took].filter(Boolean).join(" · ") || null;
}

const INTO = /^(P|UL|OL|LI|PRE|CODE|DIV|BLOCKQUOTE|H[1-6]|TABLE|TBODY|TR|TD)$/;

// Where the text ends: in its last paragraph, list item or block of code.
function lastOf(node) {
  let last = node;
  while (last.lastElementChild && INTO.test(last.lastElementChild.tagName)) {
    if (last.lastChild !== last.lastElementChild) break;
    last = last.lastElementChild;
  }
  return last;
}

function caret(isInText) {
  const made = element("span", null, isInText ? "caret" : "thinking");
  made.setAttribute("aria-hidden", "true");
  if (!isInText) made.append(element("i"), element("i"), element("i"));
  return made;
}

export const initials = (name) =>
  (name ?? "?")
    .split(/\s+/)
    .filter(Boolean)
    .slice(0, 2)
    .map((word) => [...word][0].toUpperCase())
    .join("") || "?";

function hue(name) {
  let found = 7;
  for (const char of name ?? "") found = (found * 31 + char.codePointAt(0)) % 360;
  return found;
}

