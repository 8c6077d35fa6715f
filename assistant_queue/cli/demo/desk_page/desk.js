// The desk: says what is set, changes it, and names the workers that can be killed.

const by = (id) => document.getElementById(id);
const EVERY = 1000;
let room = "desk";
let isMoving = false;

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const found = await fetch(path, options);
  if (!found.ok) throw new Error(`${found.status}`);
  return found.json();
}

function show(state) {
  room = state.room;
  if (!isMoving) {
    by("window").max = state.most_window_s;
    by("window").value = state.window_s;
    by("window-said").textContent = `${Number(state.window_s).toFixed(1)} s`;
  }
  if (document.activeElement !== by("policy")) by("policy").value = state.mid_run;
  by("slow").setAttribute("aria-pressed", String(state.slow));
  by("model").disabled = !state.has_stand_in;
  const shown = [...by("workers").children].map((one) => Number(one.dataset.pid));
  if (shown.join() === state.workers.join()) return;
  by("workers").replaceChildren(
    ...state.workers.map((pid) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `process ${pid}`;
      button.dataset.pid = pid;
      button.addEventListener("click", () => act(`Process ${pid} was killed; another one starts.`, "demo/kill", { pid }));
      return button;
    }),
  );
}

async function act(said, path, body) {
  try {
    const state = await ask(path, body);
    if (state.room) show(state);
    by("said").textContent = said;
  } catch (error) {
    by("said").textContent = `That did not work: ${error.message}.`;
  }
}

const change = (said, body) => act(said, "demo/change", body);

by("window").addEventListener("input", () => {
  isMoving = true;
  by("window-said").textContent = `${Number(by("window").value).toFixed(1)} s`;
});
by("window").addEventListener("change", async () => {
  const window_s = Number(by("window").value);
  await change(`Messages wait ${window_s.toFixed(1)} s for others.`, { window_s });
  isMoving = false;
});
by("policy").addEventListener("change", () => {
  const chosen = by("policy");
  change(`A message during an answer ${chosen.selectedOptions[0].textContent}.`, { mid_run: chosen.value });
});
by("slow").addEventListener("click", () => {
  const slow = by("slow").getAttribute("aria-pressed") !== "true";
  change(slow ? "The model is five times slower." : "The model is as fast as before.", { slow });
});
by("fails").addEventListener("click", () => change("The next run fails.", { fails: true }));
by("refuses").addEventListener("click", () => change("The next three requests are refused (429).", { refuses: true }));
by("stop").addEventListener("click", async () => {
  try {
    const { stopped } = await ask(`api/threads/${encodeURIComponent(room)}/stop`, {});
    by("said").textContent = stopped ? "The answer is stopped." : "There is no answer to stop.";
  } catch (error) {
    by("said").textContent = `That did not work: ${error.message}.`;
  }
});
by("controls").addEventListener("submit", (event) => event.preventDefault());

async function look() {
  try {
    show(await ask("demo/state"));
  } catch {
    by("said").textContent = "The demo has ended.";
  }
  setTimeout(look, EVERY);
}
look();
