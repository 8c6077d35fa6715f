"""The classic chat service: POST /chat with a message returns the answer.

Like an Express endpoint, with a queue. Without a key it sends itself a few requests and ends.

python examples/classic_chat.py                                  # no key, no Redis, no account
OPENAI_API_KEY=... python examples/classic_chat.py --model NAME  # the real service
"""

from __future__ import annotations

import asyncio

import httpx
from surroundings import surroundings

from assistant_queue import AsyncAssistantMessageQueue
from assistant_queue.integrations.fastapi import allow_all, create_app


async def play(queue: AsyncAssistantMessageQueue) -> None:
    """Call the service as a client would."""
    # `assistant-queue serve --app myapp:queue` is this app; here it is called without a socket.
    app = create_app(queue, authorize=allow_all, rate_limit="5/minute", page=False)
    async with (
        queue,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://chat", timeout=60
        ) as client,
    ):
        await queue.start_worker()

        # Two requests at once, as an impatient person sends them: one run, one answer to both.
        said = ["Hi!", "What is a debounce?"]
        answers = await asyncio.gather(
            *(client.post("/api/chat", json={"thread_id": "mia", "message": text}) for text in said)
        )
        for text, answer in zip(said, answers, strict=True):
            print(f"{text:<22} {answer.status_code} {answer.json()['reply']}")

        # Without waiting: a job id and an estimate at once, the reply later.
        taken = await client.post(
            "/api/threads/mia/messages",
            json={"message": "Thanks!"},
            headers={"Idempotency-Key": "click-3"},
        )
        again = await client.post(
            "/api/threads/mia/messages",
            json={"message": "Thanks!"},
            headers={"Idempotency-Key": "click-3"},
        )
        job = "yes" if taken.json()["job_id"] else "no"
        print(f"\n{taken.status_code}, job {job}, sent twice: {again.json()['duplicate']}")
        print((await client.get(taken.headers["location"], params={"wait": 30})).json()["reply"])

        # The sixth message within a minute.
        last = [
            await client.post("/api/threads/mia/messages", json={"message": "And?"})
            for _ in range(2)
        ][-1]
        wait = last.headers["retry-after"]
        print(f"\n{last.status_code} {last.json()['code']}, come back in {wait} s")


def main() -> None:
    with surroundings(__doc__) as options:
        asyncio.run(play(AsyncAssistantMessageQueue(**options, message_delay=1.0)))


if __name__ == "__main__":
    main()
