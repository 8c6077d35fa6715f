// One's own messages: edited, taken back, answered at once, sent and written again.

import { request } from "./net.js";
import { contentOf } from "./parts.js";
import { messageOf, sendAgain, takeBack } from "./state.js";
import { isOpen, refusalText, wish, withdraw } from "./wishes.js";

const TOO_LATE = "Too late to change that.";

export class Own {
  constructor(context) {
    Object.assign(this, context); // address, state, view, outbox, composer, changed
  }

  edit(id) {
    const message = messageOf(this.state, id);
    if (message) this.composer.edit(message);
  }

  async saveEdit(id, text) {
    const message = messageOf(this.state, id);
    if (!message || message.text === text) return;
    const content = { text, files: message.files };
    const answer = await this.ask(message, "edit", "PATCH", "?running=true", { message: contentOf(text, message.files?.parts) }, content);
    if (answer?.edited) return;
    withdraw(message);
    const { field } = this.composer;
    const isFree = !field.value && !this.composer.editing;
    if (isFree) this.composer.put(text);
    else message.late = { kind: "edit", content, isRefused: false }; // "Write again" has it
    if (answer) this.view.notice(isFree ? `${TOO_LATE} What you wrote is in the field: send it as a new message.` : TOO_LATE);
    this.changed();
  }

  async takeBack(id) {
    const message = messageOf(this.state, id);
    if (!isOpen(message)) {
      this.outbox.drop(id);
      takeBack(this.state, id);
      this.changed();
      return;
    }
    const answer = await this.ask(message, "remove", "DELETE", "?running=true");
    if (answer?.cancelled) return;
    withdraw(message);
    if (answer) this.view.notice(TOO_LATE);
    this.changed();
  }

  async answerNow(id) {
    const message = messageOf(this.state, id);
    if (message?.status !== "waiting") return;
    const answer = await this.ask(message, "now", "POST", "/promote", { mid_run: "interrupt" });
    if (answer?.promoted) return;
    withdraw(message);
    if (answer && message.status === "waiting") this.view.notice("The answer before it has just ended: yours is next.");
    this.changed();
  }

  // The service's answer to a wish, which is shown until events say what became of it; null, and a notice, if there is none.
  async ask(message, kind, method, rest, body = undefined, content = null) {
    wish(message, kind, content);
    this.changed();
    const answer = await request(`${this.address}/messages/${encodeURIComponent(message.id)}${rest}`, method, body).catch(() => null);
    if (answer?.ok) return answer.json();
    const problem = await answer?.json().catch(() => null);
    this.view.notice(answer ? `That did not work. ${problem?.detail ?? ""}`.trim() : "There is no connection. Try again in a moment.");
    return null;
  }

  refused(reason) {
    const text = refusalText(reason, this.state.items);
    if (text) this.view.notice(text);
  }

  checkEdit() {
    const id = this.composer.editing?.id;
    if (!id) return;
    const message = messageOf(this.state, id);
    if (isOpen(message)) this.composer.editsRunning(message.status === "working");
    else if (this.composer.release(id)) this.view.notice(`${TOO_LATE} What you write now is a new message.`);
  }

  sendAgain(id) {
    const message = messageOf(this.state, id);
    if (!message) return;
    sendAgain(this.state, id);
    this.outbox.add({ id, author: message.author, text: message.text, parts: message.files?.parts });
    this.changed();
  }

  // An edit that was not made is written as it was meant.
  writeAgain(id) {
    const message = messageOf(this.state, id);
    if (!message) return;
    this.composer.add(message.late?.content ?? message);
    delete message.late;
    this.changed();
  }
}
