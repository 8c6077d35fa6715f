"""The floor for Python: the same calls by the `openai` client on a plain asyncio loop, in a separate process, nothing kept or promised.

`python -m tests.benchmarks.bare --url URL --runs N --abreast N` prints what it took as JSON. With
`--redis URL` each call takes its message from a Redis list and puts the reply on another: what a
program has that uses redis-py and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import openai
import redis.asyncio

TEXT = "Hello! Where is my order? I have been waiting for a week."
MESSAGES = "bare:messages"
REPLIES = "bare:replies"


async def _one(client: openai.AsyncOpenAI, text: str, conversation: str) -> str:
    stream = await client.responses.create(
        model="lean",
        input=[{"role": "user", "content": text}],
        conversation=conversation,
        stream=True,
        background=True,
    )
    said = ""
    async for event in stream:
        if event.type == "response.completed":
            said = event.response.output_text
    return said


async def _one_raw(client: openai.AsyncOpenAI, text: str, conversation: str) -> str:
    """The same without the client's typed events: the answer's bytes, unread."""
    body = {
        "model": "lean",
        "input": [{"role": "user", "content": text}],
        "conversation": conversation,
        "background": True,
    }
    async with client.responses.with_streaming_response.create(
        extra_body=body, stream=True
    ) as answer:
        return str([chunk async for chunk in answer.iter_bytes()])


async def _work(
    options: argparse.Namespace, runs: Any, clients: list[openai.AsyncOpenAI], store: Any
) -> None:
    for number in runs:
        text = TEXT if store is None else (await store.blpop(MESSAGES))[1].decode()
        said = await (_one_raw if options.raw else _one)(
            clients[number % len(clients)], text, f"conv_{number:024d}"
        )
        assert said
        if store is not None:
            await store.rpush(REPLIES, said)


async def main(options: argparse.Namespace) -> None:
    """Make all calls, `abreast` at a time, and say what it took."""
    per_client = -(-options.abreast // options.clients)
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
        max_connections=per_client, max_keepalive_connections=per_client
    )
    clients = [
        openai.AsyncOpenAI(
            api_key="none",
            base_url=options.url,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits),
            max_retries=0,
            timeout=120,
        )
        for _ in range(options.clients)
    ]
    store = redis.asyncio.Redis.from_url(options.redis) if options.redis else None
    warm = iter(range(options.warm))
    await asyncio.gather(*(_work(options, warm, clients, store) for _ in range(options.abreast)))
    start = time.perf_counter()
    cpu = time.process_time()
    runs = iter(range(options.runs))

    async def begin(place: int) -> None:
        await asyncio.sleep(options.over * place / options.abreast)
        await _work(options, runs, clients, store)

    await asyncio.gather(*(begin(place) for place in range(options.abreast)))
    taken = {"elapsed_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(
        json.dumps({**taken, "peak_bytes": peak, "program": Path(__file__).name}) + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--abreast", type=int, required=True)
    parser.add_argument("--warm", type=int, default=0, help="calls before the clock starts")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument(
        "--over", type=float, default=0.0, help="seconds over which the first calls start"
    )
    parser.add_argument("--redis", default="")
    parser.add_argument(
        "--raw", action="store_true", help="read the answers' bytes, make no events of them"
    )
    asyncio.run(main(parser.parse_args()))
