// One worker process of the TypeScript library. argv[2]: JSON {checkout, redisUrl, concurrency, readReplies}.
// Lines of stdin are questions: "answered" (messages of completed jobs), "known" (when each thread's
// reply was read, in seconds), "failed" (jobs that failed, and the last error).
'use strict';
const path = require('path');
const readline = require('readline');

const given = JSON.parse(process.argv[2]);
const fromCheckout = (name) => require(require.resolve(name, { paths: [given.checkout] }));

// The library removes each job of a batch, and the active one of them is locked by its own worker:
// bullmq throws, so that each batch fails after its run, and runs again. Let it fail.
const { Job } = fromCheckout('bullmq');
const remove = Job.prototype.remove;
Job.prototype.remove = async function removeUnlessLocked(...args) {
  try {
    return await remove.apply(this, args);
  } catch (error) {
    if (!/locked/.test(error.message)) throw error;
    return undefined;
  }
};

const { AssistantMessageQueue } = require(path.join(given.checkout, 'dist'));
const queue = new AssistantMessageQueue({
  openAIApiKey: 'none',
  redisUrl: given.redisUrl,
  assistantId: 'asst',
  concurrency: given.concurrency,
});
const seen = { answered: 0, failed: 0, lastError: null, known: {} };
const worker = queue.startWorker();
worker.on('completed', async (job, result) => {
  if (!result || !result.threadId) return; // a job whose messages another one has taken
  seen.answered += result.messagesProcessed;
  if (!given.readReplies) return;
  await queue.listMessages(result.threadId, { limit: 1, order: 'desc' });
  seen.known[result.threadId] = Date.now() / 1000;
});
worker.on('failed', (job, error) => {
  seen.failed += 1;
  seen.lastError = String(error && error.message);
});
worker.on('error', (error) => { seen.lastError = String(error && error.message); });
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
worker.waitUntilReady().then(() => say('ready'));
const answers = {
  answered: () => seen.answered,
  known: () => seen.known,
  failed: () => [seen.failed, seen.lastError],
};
const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => say(answers[line]()));
lines.on('close', () => process.exit(0));
