// What this page asked of its own messages, and what became of it. Pure, as `state.js`.
//
// message.wish: {kind: "edit" | "remove" | "now", content}, until an event says that it is done, or cannot be done any more.
// The service's True is a wish, too: the batch under way has to be interrupted for it.
// message.late: {kind, content, isRefused}: it was not done. content: of an edit, {text, files}.

const OPEN = new Set(["waiting", "working"]);

export const isOpen = (message) => OPEN.has(message?.status);

export function wish(message, kind, content = null) {
  delete message.late;
  message.wish = { kind, content };
}

export function withdraw(message) {
  delete message.wish;
  delete message.late;
}

// The event of that kind is there.
export function fulfil(message, kind) {
  if (message.wish?.kind === kind) delete message.wish;
  delete message.late;
}

// The message is in another state: it joined the answer, or its batch is over.
export function settleWish(message) {
  if (!message.wish) return;
  if (message.wish.kind === "now") {
    if (message.status !== "waiting") delete message.wish;
  } else if (!isOpen(message)) fail(message, false);
}

// The batch is not interrupted: whatever was asked of it is not done.
export function refuseWishes(messages) {
  for (const message of messages) if (message.wish) fail(message, true);
}

function fail(message, isRefused) {
  const { kind, content } = message.wish;
  delete message.wish;
  if (kind !== "now") message.late = { kind, content, isRefused };
}

const FULL = "This answer takes no more messages, so it is finished first.";
const REFUSALS = {
  max_interrupts: "This answer was interrupted several times, so it is finished first.",
  max_batch_size: FULL,
  max_batch_chars: FULL,
};

// What is said about a refusal; null if nothing was asked on this page.
export function refusalText(reason, messages) {
  const kinds = new Set(messages.map((message) => message.wish?.kind).filter(Boolean));
  if (!kinds.size) return null;
  const why = REFUSALS[reason] ?? "This answer cannot be interrupted, so it is finished first.";
  return `${why} ${kinds.has("now") ? "Your message is answered next." : "Your message stays as it was."}`;
}
