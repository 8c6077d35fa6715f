"""The classic chat service: POST /chat with a message, and the answer comes back. What an Express endpoint does, with a queue behind it.

python examples/classic_chat.py                                  # no key, no Redis, no account needed: asks itself, and ends
OPENAI_API_KEY=... python examples/classic_chat.py --model NAME  # the real service
"""

from __future__ import annotations

import asyncio

import httpx
from surroundings import surroundings

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.integrations.fastapi import allow_all, create_app


async def play(queue: AsyncAssistantMessageQueue) -> None:
    # `assistant-queue serve --app myapp:queue` is this app; here it is called without a socket.
    app = create_app(queue, authorize=allow_all, rate_limit="5/minute", page=False)
    async with queue, httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://chat", timeout=60) as client:
        await queue.start_worker()

        # Two requests at once, as a person sends them who does not wait: one run, one answer to both.
        said = ["Hi!", "What is a debounce?"]
        answers = await asyncio.gather(*(client.post("/api/chat", json={"thread_id": "mia", "message": text}) for text in said))
        for text, answer in zip(said, answers, strict=True):
            print(f"{text:<22} {answer.status_code} {answer.json()['reply']}")

        # Without waiting: a job id and an estimate at once, the reply later.
        taken = await client.post("/api/threads/mia/messages", json={"message": "Thanks!"}, headers={"Idempotency-Key": "click-3"})
        again = await client.post("/api/threads/mia/messages", json={"message": "Thanks!"}, headers={"Idempotency-Key": "click-3"})
        print(f"\n{taken.status_code}, job {'yes' if taken.json()['job_id'] else 'no'}, sent twice: {again.json()['duplicate']}")
        print((await client.get(taken.headers["location"], params={"wait": 30})).json()["reply"])

        # The sixth message within a minute.
        last = [await client.post("/api/threads/mia/messages", json={"message": "And?"}) for _ in range(2)][-1]
        print(f"\n{last.status_code} {last.json()['code']}, come back in {last.headers['retry-after']} s")


def main() -> None:
    with surroundings(__doc__) as options:
        asyncio.run(play(AsyncAssistantMessageQueue(**options, message_delay=1.0)))


if __name__ == "__main__":
    main()
