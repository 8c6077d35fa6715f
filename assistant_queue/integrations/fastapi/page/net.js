import { contentOf } from "./parts.js";
import { EVENT_TYPES } from "./state.js";

// The way to the server: one stream of events that is resumed wherever it broke, and an outbox that sends each message until it is taken.

const FIRST_PAUSE = 400;
const LONGEST_PAUSE = 8000;
const ASLEEP = 30000; // a page that was hidden for longer does not trust its connection

const EVENTS = [...EVENT_TYPES, "closed"];

export class Stream {
  constructor(address, name, { onEvent, onState }) {
    Object.assign(this, { address, name, onEvent, onState });
    this.last = "0"; // all that is kept
    this.pause = FIRST_PAUSE;
    this.source = null;
    this.timer = null;
    addEventListener("online", () => this.open());
    addEventListener("offline", () => this.lost());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.hiddenAt = Date.now();
      else if (this.hiddenAt && Date.now() - this.hiddenAt > ASLEEP) this.open();
    });
  }

  open() {
    clearTimeout(this.timer);
    this.source?.close();
    const query = new URLSearchParams({ after: this.last, name: this.name });
    const source = (this.source = new EventSource(`${this.address}/events?${query}`));
    for (const type of EVENTS) {
      source.addEventListener(type, (message) => {
        if (source !== this.source) return; // one that was given up
        const event = JSON.parse(message.data);
        if (message.lastEventId) this.last = message.lastEventId;
        if (type === "caught_up") this.is("open");
        this.onEvent(event);
      });
    }
    source.addEventListener("error", () => source === this.source && this.lost());
  }

  is(state) {
    if (state === "open") this.pause = FIRST_PAUSE;
    this.onState(state);
  }

  lost() {
    this.source?.close();
    this.source = null;
    this.is(navigator.onLine ? "lost" : "offline");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), this.pause * (0.75 + Math.random() / 2)); // not all pages at once
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
  }
}

// Each message has an id from here: sent twice, it is one message.
export class Outbox {
  constructor(address, key, { onTaken, onRefused }) {
    Object.assign(this, { address, key, onTaken, onRefused });
    this.waiting = load(key);
    this.busy = false;
    this.timer = null;
    addEventListener("online", () => this.send());
  }

  add(message) {
    this.waiting.push(message);
    this.save();
    this.send();
  }

  drop(id) {
    this.waiting = this.waiting.filter((one) => one.id !== id);
    this.save();
  }

  async send() {
    clearTimeout(this.timer);
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.waiting.length) {
        const message = this.waiting[0];
        const again = await this.post(message);
        if (again) {
          this.timer = setTimeout(() => this.send(), again);
          return;
        }
        this.drop(message.id);
      }
    } finally {
      this.busy = false;
    }
  }

  // The ms after which to send it again; 0 if that is not needed.
  async post({ id, author, text, parts }) {
    let answer;
    try {
      answer = await request(`${this.address}/messages`, "POST", { message: contentOf(text, parts), author, message_id: id });
    } catch {
      return 2000; // no connection
    }
    if (answer.ok) {
      this.onTaken(id);
      return 0;
    }
    const problem = await answer.json().catch(() => ({}));
    const wait = Number(answer.headers.get("Retry-After"));
    if ((answer.status === 429 || answer.status === 503) && wait) {
      this.onRefused(id, { ...problem, until: Date.now() + wait * 1000 });
      return wait * 1000;
    }
    this.onRefused(id, problem);
    return 0;
  }

  save() {
    // A browser keeps some megabytes: without room for files, messages without files are kept.
    for (const kept of [this.waiting, this.waiting.filter((one) => !one.parts?.length)]) {
      try {
        if (kept.length) localStorage.setItem(this.key, JSON.stringify(kept));
        else localStorage.removeItem(this.key);
        return;
      } catch {
        // Or it keeps nothing: an unsent message ends with the page.
      }
    }
  }
}

function load(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? [];
  } catch {
    return [];
  }
}

export function request(address, method = "GET", body = undefined) {
  const options = { method, headers: {}, signal: AbortSignal.timeout(20000) };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return fetch(address, options);
}

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "page-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
