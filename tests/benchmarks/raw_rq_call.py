"""An RQ job that makes the call of one batch.

A separate module: RQ's horses import it, and `openai` with it.
"""

from __future__ import annotations

from functools import cache

import openai

CALL = "tests.benchmarks.raw_rq_call.call_provider"


@cache
def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="none", base_url=url, max_retries=0)


def call_provider(url: str, text: str) -> str:
    """The call of one batch, by the blocking client; kept between the jobs of a worker that does not fork."""
    asked = [{"role": "user", "content": text}]
    for event in _client(url).responses.create(
        model="lean", input=asked, conversation="conv", stream=True, background=True
    ):  # type: ignore[call-overload]  # a list of dicts, as most code has it
        if event.type == "response.completed":
            return str(event.response.output_text)
    raise AssertionError("the stream ended early")
