// Numbers, spans and times as people read them. Pure.

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => number.format(value ?? 0);
export const compact = (value) => (Math.abs(value) < 10000 ? number.format(value) : short.format(value));
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

// "412 ms", "3.4 s", "5 min", "2 h 5 min", "3 d"
export function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const s = Math.max(seconds, 0);
  if (s === 0) return "0 s";
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${(Math.round(s * 10) / 10).toString()} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return minutes % 60 && minutes < 600 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.round(minutes / 60)} h`;
  return `${Math.round(minutes / 1440)} d`;
}

export const ms = (iso) => (iso ? Date.parse(iso) : null);
export const between = (from, to) => (from && to ? Math.max(ms(to) - ms(from), 0) / 1000 : null);

export const ago = (iso, now) => (iso ? `${span((now - ms(iso)) / 1000)} ago` : "–");

// "overdue 5 s", "in 4 s"
export function due(iso, now) {
  if (!iso) return "–";
  const left = (ms(iso) - now) / 1000;
  return left < -0.5 ? `overdue ${span(-left)}` : `in ${span(Math.max(left, 0))}`;
}

const pad = (value) => String(value).padStart(2, "0");
export const clock = (time) => `${pad(time.getHours())}:${pad(time.getMinutes())}`;
export function moment(iso) {
  if (!iso) return "–";
  const time = new Date(iso);
  const time_ = `${clock(time)}:${pad(time.getSeconds())}`;
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? time_ : `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())} ${time_}`;
}

export const words = (name) => String(name ?? "").replaceAll("_", " ");
