// One row of the conversation: a message, an answer. What people or the model wrote becomes text
// and elements of a fixed set, never markup.

import { copyButton, element, RichText } from "./rich.js";
import { filesNode } from "./shown_files.js";
import { replyOf } from "./state.js";
import { timeOf } from "./times.js";
import { isOpen } from "./wishes.js";

const OVER = new Set(["failed", "stopped", "cancelled"]); // ends without an answer

export class Row {
  constructor(context) {
    this.context = context; // the view: its assistant, me, actions
    this.node = element("li");
    this.look = null;
  }

  draw(row, joins) {
    const look = JSON.stringify([row, joins, this.context.me]);
    if (look === this.look) return;
    this.look = look;
    this.row = row;
    if (row.kind === "message") this.drawMessage(row, joins);
    else if (row.kind === "day" || row.kind === "gap") this.drawLine(row);
    else this.drawReply(row);
  }

  drawLine(row) {
    this.node.className = row.kind;
    this.node.textContent = row.text;
  }

  // --- a message -------------------------------------------------------------------------------

  drawMessage(row, joins) {
    const { me } = this.context;
    const isMine = row.mine || (row.author !== null && row.author === me);
    const hadFocus = this.node.contains(document.activeElement);
    this.node.replaceChildren();
    this.node.className = `message ${isMine ? "mine" : "theirs"} ${row.status}${joins ? " joins" : ""}`;
    this.node.dataset.id = row.id;
    if (!isMine) this.node.append(joins ? element("span", "", "avatar-space") : avatar(row.author));
    const body = element("div", null, "body");
    if (!joins) body.append(messageHead(row, isMine));
    const bubble = row.text || !row.files ? [element("p", row.text, "bubble")] : [];
    body.append(...this.messageFiles(row), ...bubble, ...this.messageNote(row, isMine));
    this.node.append(body);
    if (hadFocus) document.getElementById("text").focus(); // the button that had it is gone
  }

  // Drawn once: a picture that is drawn again flickers.
  messageFiles(row) {
    if (!row.files?.list.length) return [];
    const look = JSON.stringify(row.files);
    if (this.filesLook !== look) {
      this.filesLook = look;
      this.files = filesNode(row.files.list);
    }
    return [this.files];
  }

  messageNote(row, isMine) {
    const { actions } = this.context;
    const line = element("p", null, "note");
    const say = (words) => line.append(element("span", words));
    if (row.edited && row.status !== "cancelled") say("Edited");
    const words = { sending: "Sending…", cancelled: "Taken back", failed: "Not answered", stopped: "Stopped" }[row.status];
    if (words) say(words);
    if (row.wish) say({ edit: "Changing…", remove: "Taking back…", now: "Joining the answer…" }[row.wish.kind]);
    if (row.late && !OVER.has(row.status)) say(lateWords(row.late));
    if (row.status === "refused") {
      const isFast = Boolean(row.why?.until);
      say(isFast ? "Too fast: it is sent again in a moment." : `Not sent. ${row.why?.detail ?? ""}`.trim());
      if (!isFast) line.append(link("Try again", () => actions.sendAgain(row.id)));
    }
    const isChangeable = isMine && isOpen(row) && !row.wish;
    if (row.canJoin) line.append(link("Answer now", () => actions.answerNow(row.id)));
    if (isChangeable) line.append(link("Edit", () => actions.edit(row.id)));
    if (row.status === "refused" || row.status === "sending" || isChangeable) line.append(link("Take back", () => actions.takeBack(row.id)));
    if (isMine && (OVER.has(row.status) || row.late?.content)) line.append(link("Write again", () => actions.writeAgain(row.id)));
    for (const button of line.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent}: ${shortened(row.text || row.files?.list[0].name || "")}`);
    return line.childNodes.length ? [line] : [];
  }

  // --- an answer -------------------------------------------------------------------------------

  // The elements of an answer stay while it is written; only what changed in them is drawn anew.
  drawReply(row) {
    if (!this.said) this.beginReply();
    this.node.className = `reply ${row.status}`;
    this.node.dataset.id = row.id;
    const isBusy = row.status === "working";
    const texts = row.kind === "batch" ? replyOf(row) : [row.text];
    this.head.replaceChildren(element("span", row.author ?? this.context.assistant, "author"), ...summaryOf(row));
    this.tools.replaceChildren(...(row.tools ?? []).map(toolLine));
    const hadFocus = this.asks.contains(document.activeElement);
    this.asks.replaceChildren(...(row.asks ?? []).map((ask) => this.askCard(ask, row)));
    if (hadFocus) (this.asks.querySelector("button") ?? document.getElementById("text")).focus();
    const isAsked = (row.asks ?? []).some((ask) => !ask.verdict);
    this.caret?.remove();
    this.said.update(texts, isBusy);
    this.body.setAttribute("aria-busy", String(isBusy));
    if (isBusy && !isAsked) (this.said.isEmpty ? this.body : lastOf(this.said.node)).append((this.caret = caret(!this.said.isEmpty)));
    this.notes.replaceChildren(...this.replyNotes(row));
    this.foot.hidden = isBusy || this.said.isEmpty;
  }

  beginReply() {
    this.said = new RichText();
    this.body = element("div", null, "body");
    this.head = element("p", null, "head");
    this.tools = element("div", null, "tools");
    this.asks = element("div", null, "asks");
    this.notes = element("div", null, "notes");
    this.foot = element("div", null, "reply-foot");
    this.foot.append(copyButton(() => this.words(), "Copy the answer"));
    this.body.append(this.head, this.tools, this.asks, this.said.node, this.notes, this.foot);
    this.node.append(element("span", null, "mark"), this.body);
  }

  // A tool call that waits for an answer, or how it was settled.
  askCard(ask, row) {
    const { actions } = this.context;
    const card = element("div", null, `ask ${ask.verdict ? "settled" : "open"}`);
    card.append(element("p", wordsToAsk(ask), "ask-question"));
    const isOver = ask.verdict || row.status !== "working";
    if (isOver) card.append(element("p", settledWords(ask), "quietly"));
    else if (ask.kind === "approval" && row.decides) {
      const buttons = element("p", null, "ask-buttons");
      for (const [words, how] of [["Approve", "approve"], ["Deny", "deny"]]) {
        const button = element("button", words, how === "approve" ? "primary" : "quiet");
        button.type = "button";
        button.setAttribute("aria-label", `${words}: ${shortened(wordsToAsk(ask))}`);
        button.addEventListener("click", () => {
          for (const one of buttons.children) one.disabled = true;
          actions.settle(ask.id, how).finally(() => [...buttons.children].forEach((one) => (one.disabled = false)));
        });
        buttons.append(button);
      }
      card.append(buttons);
    } else card.append(element("p", "Waits for an answer.", "quietly"));
    return card;
  }

  words() {
    return (this.row.kind === "batch" ? replyOf(this.row) : [this.row.text]).join("\n\n");
  }

  replyNotes(row) {
    const { actions } = this.context;
    const again = () => actions.retry(row.id);
    const notes = [];
    if (row.fallback) notes.push(element("p", row.fallback, "fallback"));
    if (row.status === "done" && this.said.isEmpty) notes.push(element("p", "Nothing to say to that.", "quietly"));
    if (row.incomplete) notes.push(element("p", "The answer was cut short.", "quietly"));
    if (row.status === "retrying") notes.push(trouble(`That did not work (attempt ${row.attempt}). Trying again.`));
    if (row.status === "failed") notes.push(trouble(`${row.error?.detail ?? "There is no answer."} What you wrote is kept.`, again));
    if (row.status === "parked") notes.push(trouble("It is not known whether this was answered. A person has to look.", again));
    if (row.status === "stopped") notes.push(element("p", this.said.isEmpty ? "Stopped before an answer." : "Stopped here.", "quietly"));
    if (row.status === "discarded") notes.push(element("p", "This was given up.", "quietly"));
    return notes;
  }
}

export const wordsToAsk = ({ question, tool, kind }) => question ?? (kind === "answer" ? `${tool}: the answer comes later` : `Call ${tool}?`);

function settledWords({ verdict, by, reason }) {
  const words = { approved: "Approved", denied: "Denied", answered: "Answered", expired: "It has expired", withdrawn: "Withdrawn" }[verdict] ?? "Settled";
  return `${words}${by ? ` by ${by}` : ""}${reason ? `: ${reason}` : ""}`;
}

function messageHead(row, isMine) {
  const head = element("p", null, "message-head");
  head.append(element("span", isMine ? "You" : (row.author ?? "Somebody"), isMine ? "unseen" : "author"));
  if (row.at) head.append(timeOf(row.at));
  return head;
}

function lateWords({ kind, isRefused }) {
  const what = kind === "edit" ? "Not changed" : "Not taken back";
  return `${what}: the answer ${isRefused ? "could not be interrupted" : "came first"}.`;
}

const shortened = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);

function link(words, act) {
  const button = element("button", words, "link");
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

function trouble(text, again) {
  const line = element("p", null, "failure");
  line.append(element("span", text));
  if (again) line.append(" ", link("Try again", again));
  return line;
}

function toolLine(tool) {
  const line = element("p", null, `tool ${tool.done ? "done" : "busy"}`);
  line.append(element("span", null, "tool-icon"), element("span", tool.done ? "Used" : "Using"), element("code", tool.name));
  return line;
}

function summaryOf(row) {
  const summary = element("span", null, "summary");
  const parts = [
    row.at ? timeOf(row.at) : null,
    row.count > 1 ? `${row.count} messages, one answer` : null,
    row.interrupted ? "interrupted, begun anew" : null,
    row.readyAt && row.claimedAt ? `${((Date.parse(row.readyAt) - Date.parse(row.claimedAt)) / 1000).toFixed(1)} s` : null,
  ];
  for (const part of parts.filter(Boolean)) summary.append(summary.childNodes.length ? " · " : "", part);
  return summary.childNodes.length ? [summary] : [];
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

export function avatar(name) {
  const made = element("span", initials(name), "avatar");
  made.setAttribute("aria-hidden", "true");
  made.style.setProperty("--hue", String(hue(name)));
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
