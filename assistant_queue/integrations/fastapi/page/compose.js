// The field: writing a message, and editing one that is not answered yet.

import { Attachments } from "./attach.js";
import { newId } from "./net.js";

const by = (id) => document.getElementById(id);
const TYPING_EVERY = 2500;
const TALLEST = 180;
const ONE_LINE = 50;

export class Composer {
  constructor({ limits, onSay, onEdit, onTyping, onTrouble, lastOpen }) {
    Object.assign(this, { onSay, onEdit, onTyping, lastOpen });
    this.field = by("text");
    this.typedAt = 0;
    this.waits = false; // to be sent as soon as its files are read
    this.attached = new Attachments({ limits, onTrouble, onChange: () => this.fit(), onRead: (isWell) => this.wasRead(isWell) });
    this.editing = null; // {id, draft}: what is edited, and what was in the field before
    this.field.addEventListener("input", () => this.typed());
    this.field.addEventListener("keydown", (event) => this.pressed(event));
    by("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    by("edit-cancel").addEventListener("click", () => this.endEdit());
  }

  typed() {
    this.fit();
    if (this.field.value.trim() && Date.now() - this.typedAt > TYPING_EVERY) {
      this.typedAt = Date.now();
      this.onTyping();
    }
  }

  pressed(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      by("compose").requestSubmit();
    } else if (event.key === "Escape" && this.editing) {
      event.preventDefault();
      this.endEdit();
    } else if (event.key === "ArrowUp" && !this.field.value && !this.editing) {
      const last = this.lastOpen();
      if (!last) return;
      event.preventDefault();
      this.edit(last);
    }
  }

  submit() {
    const text = this.field.value.trim();
    this.waits = !this.editing && this.attached.busy > 0;
    if (!this.canSend()) return;
    if (this.editing) {
      const { id } = this.editing;
      this.endEdit();
      this.onEdit(id, text);
    } else {
      this.put("");
      const parts = this.attached.take();
      this.onSay({ id: newId(), text, ...(parts.length ? { parts } : {}) });
    }
    this.typedAt = 0;
  }

  wasRead(isWell) {
    const isSent = this.waits && isWell;
    this.waits = false;
    if (isSent) this.submit();
  }

  edit({ id, text, files, status }) {
    this.editing = { id, isRunning: status === "working", hasFiles: Boolean(files), draft: this.editing ? this.editing.draft : this.field.value };
    this.showEdit();
    this.put(text);
  }

  // Into the field, below what is there.
  add({ text, files }) {
    if (this.editing) this.endEdit();
    if (files) this.attached.restore(files.parts);
    this.put([this.field.value.trim(), text].filter(Boolean).join("\n"));
  }

  endEdit() {
    const { draft } = this.editing;
    this.editing = null;
    this.showEdit();
    this.put(draft);
  }

  // The message that is edited is being answered now.
  editsRunning(isRunning) {
    if (this.editing.isRunning === isRunning) return;
    this.editing.isRunning = isRunning;
    this.showEdit();
  }

  // The message that is edited can be changed no longer: what is in the field becomes a new one.
  release(id) {
    if (this.editing?.id !== id) return false;
    this.editing = null;
    this.showEdit();
    return true;
  }

  showEdit() {
    by("editing").hidden = !this.editing;
    if (this.editing) by("editing-text").textContent = `You are editing your message.${this.editing.isRunning ? " Its answer will begin anew." : ""}`;
    by("attach").disabled = Boolean(this.editing);
    by("compose").classList.toggle("edits", Boolean(this.editing));
    by("send").setAttribute("aria-label", this.editing ? "Save" : "Send");
  }

  put(text) {
    this.field.value = text;
    this.fit();
    this.field.focus();
  }

  fit() {
    this.field.style.height = "auto";
    // On a narrow screen a text of several lines has the whole row, until it is sent.
    if (!this.field.value) by("compose").classList.remove("tall");
    else if (this.field.scrollHeight > ONE_LINE) by("compose").classList.add("tall");
    this.field.style.height = `${Math.min(this.field.scrollHeight, TALLEST)}px`;
    by("send").disabled = !this.canSend();
  }

  canSend() {
    if (this.field.value.trim()) return !this.attached.busy;
    return this.editing ? this.editing.hasFiles : this.attached.parts.length > 0 && !this.attached.busy;
  }
}
