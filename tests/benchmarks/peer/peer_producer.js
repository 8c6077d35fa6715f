// One producer process of the TypeScript library; prints one JSON document.
// argv[2]: JSON {checkout, redisUrl, provider, op, ...}; the operations are those of producer.py.
'use strict';
const fs = require('fs');
const path = require('path');
const { performance } = require('perf_hooks');

const given = JSON.parse(process.argv[2]);
if (given.distinct_times) {
  // A job's id is its thread and its millisecond: of two messages in one, the second is lost.
  let last = Date.now();
  Date.now = () => { last += 1; return last; };
}
const { AssistantMessageQueue } = require(path.join(given.checkout, 'dist'));
const queue = new AssistantMessageQueue({
  openAIApiKey: 'none',
  redisUrl: given.redisUrl,
  assistantId: 'asst',
  messageDelay: given.delay_s * 1000,
});
const now = () => (performance.timeOrigin + performance.now()) / 1000;
const sleep = (seconds) => new Promise((done) => { setTimeout(done, Math.max(0, seconds * 1000)); });
const thread = (number) => `${given.threads}${String(number).padStart(24, '0')}`;
const add = (number) => queue.addMessageToThread(thread(number), given.text);

async function abreast(count, lanes, one) {
  let next = 0;
  await Promise.all(Array.from({ length: lanes }, async () => {
    while (next < count) {
      const number = next;
      next += 1;
      await one(number);
    }
  }));
}

const operations = {
  async add() {
    await abreast(given.warm || 0, given.in_flight, (n) => queue.addMessageToThread(`thread_warm${n}`, given.text));
    const start = performance.now();
    await abreast(given.count, given.in_flight, (n) => add(Math.floor(n / given.per_thread)));
    return { elapsed_s: (performance.now() - start) / 1000 };
  },
  async paced() {
    const called = {};
    const pending = [];
    const start = now() + 0.05;
    for (let number = 0; number < given.count; number += 1) {
      await sleep(start + number / given.rate - now());
      called[thread(number)] = now();
      pending.push(add(number));
    }
    await Promise.all(pending);
    return { called };
  },
  async bursts() {
    const pending = [];
    const burst = async (number) => {
      for (let message = 0; message < given.per_thread; message += 1) {
        await add(number);
        await sleep(0.003);
      }
    };
    for (let number = 0; number < given.count; number += 1) {
      pending.push(burst(number));
      await sleep(given.interval_s);
    }
    await Promise.all(pending);
    return {};
  },
  async during() {
    await add(0);
    for (;;) {
      const { runs } = await (await fetch(`${given.provider}/count`)).json();
      if (runs >= 1) break;
      await sleep(0.005);
    }
    await abreast(given.count, 50, () => add(0));
    return {};
  },
};

(async () => {
  await queue.getQueue().waitUntilReady();
  await queue.ensureRedisConnection();
  const result = await operations[given.op]();
  fs.writeFileSync(1, `${JSON.stringify(result)}\n`);
  process.exit(0);
})().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
