// The way to the service: JSON, and errors with words for people.

const root = new URL("../", import.meta.url);

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.code = problem?.code ?? "";
  }
}

let base = null;

export async function connect() {
  const answer = await fetch(new URL("ops/settings.json", root));
  const settings = await answer.json();
  base = new URL(`${settings.api}/ops/`, root).href;
  return settings;
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(`${base}${path}`, options);
  } catch {
    throw new Refused(0, { detail: "The service does not answer." });
  }
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  const body = isJson ? await answer.json() : null;
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

export function read(path, query = {}) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const said = new URLSearchParams(pairs.filter(([, value]) => value !== null && value !== undefined && value !== ""));
  return request(`${path}${said.size ? `?${said}` : ""}`);
}

export const perform = (wanted) =>
  request("operations", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(wanted) });
