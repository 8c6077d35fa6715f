"""The floor for a worker, in a separate process: a batch's round trips, request and events.

Each run sends three scripts that do nothing, with as many words as a claim, a mark and the end of a
batch have, through the package's pipelines, and one request by aiohttp. It reads the events as JSON. It keeps nothing and promises nothing.

`python -m tests.benchmarks.skeleton --url URL --redis URL --runs N --abreast N --protocol NAME`
prints what it took as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import redis.asyncio

from assistant_queue.store.transport.auto_pipeline import AutoPipeline
from tests.benchmarks.bare import TEXT

SCRIPT = "return ARGV"
WORDS = (14, 12, 24)
"""Words of a claim, a mark, and an end besides those that are sent with every script."""
WORD = "w" * 24


@dataclass(frozen=True, slots=True)
class Skeleton:
    """One process' connections."""

    session: aiohttp.ClientSession
    pipeline: AutoPipeline
    sha: str
    url: str
    protocol: str

    async def work(self, runs: Iterator[int]) -> None:
        """Take runs until there are none left."""
        for number in runs:
            claim, mark, end = WORDS
            await self._script(claim)
            await self._answer(number, mark)
            await self._script(end)

    async def _script(self, words: int) -> None:
        await self.pipeline.execute("EVALSHA", self.sha, 0, *[WORD] * words)

    async def _answer(self, number: int, mark: int) -> None:
        path, body = _request(self.protocol, number)
        data = json.dumps(body, separators=(",", ":")).encode()
        events = 0
        rest = b""
        async with self.session.post(f"{self.url}{path}", data=data) as answer:
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        json.loads(line[6:])
                        events += 1
                        if events == 1:
                            await self._script(mark)
        assert events


def _request(protocol: str, number: int) -> tuple[str, dict[str, object]]:
    if protocol == "assistants":
        message = {"role": "user", "content": TEXT}
        body = {"assistant_id": "asst", "additional_messages": [message], "stream": True}
        return f"/threads/thread_{number:024d}/runs", body
    return "/responses", {
        "model": "lean",
        "input": [{"role": "user", "content": TEXT}],
        "conversation": f"conv_{number:024d}",
        "background": True,
        "stream": True,
    }


async def main(options: argparse.Namespace) -> None:
    """Work all runs off, `abreast` at a time, and say what it took."""
    client = redis.asyncio.Redis.from_url(options.redis)
    sha = await client.script_load(SCRIPT)
    headers = {"Authorization": "Bearer none", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        skeleton = Skeleton(session, AutoPipeline(client), sha, options.url, options.protocol)

        async def abreast(count: int) -> None:
            runs = iter(range(count))
            await asyncio.gather(*(skeleton.work(runs) for _ in range(options.abreast)))

        await abreast(options.abreast)
        start = time.perf_counter()
        cpu = time.process_time()
        await abreast(options.runs)
        taken = {"elapsed_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    await client.aclose()
    sys.stdout.write(json.dumps(taken) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--abreast", type=int, required=True)
    parser.add_argument("--protocol", required=True)
    asyncio.run(main(parser.parse_args()))
