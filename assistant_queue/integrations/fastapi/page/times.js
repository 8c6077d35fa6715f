// Times as people read them: in the zone and the habits of the browser.

const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const DAY_OF_A_YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const A_DAY = 86400000;

export function timeOf(at) {
  const made = document.createElement("time");
  const date = new Date(at);
  made.dateTime = date.toISOString();
  made.title = WHOLE.format(date);
  made.textContent = CLOCK.format(date);
  return made;
}

const keyOf = (date) => `${date.getFullYear()}-${date.getMonth()}-${date.getDate()}`;

export function dayName(at, now) {
  const date = new Date(at);
  if (keyOf(date) === keyOf(new Date(now))) return "Today";
  if (keyOf(date) === keyOf(new Date(now - A_DAY))) return "Yesterday";
  return (now - date < 300 * A_DAY ? DAY : DAY_OF_A_YEAR).format(date);
}

// The rows, with one in between where a day begins. A conversation of today alone needs none.
export function withDays(rows, now) {
  const today = keyOf(new Date(now));
  let day = today;
  return rows.flatMap((row) => {
    if (!row.at) return [row];
    const own = keyOf(new Date(row.at));
    if (own === day) return [row];
    day = own;
    return [{ key: `day ${own}`, kind: "day", text: dayName(row.at, now) }, row];
  });
}
