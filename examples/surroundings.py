"""Provider and Redis for the examples.

The real service if there is a key, else a stand-in; your Redis if REDIS_URL is set, else a private
one. Your own bot needs none of this.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assistant_queue.cli.demo.redis_server import private_redis
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import echo
from assistant_queue.testing.provider.script import ModelScript


@contextlib.contextmanager
def surroundings(description: str | None, model: ModelScript = echo) -> Iterator[dict[str, Any]]:
    """Yield the options for Redis and the provider; without a key, `model` plays the model."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", metavar="NAME", help="the model to ask; needed with OPENAI_API_KEY"
    )
    chosen = parser.parse_args().model
    has_key = bool(os.environ.get("OPENAI_API_KEY"))
    if has_key and chosen is None:
        parser.error(
            "OPENAI_API_KEY is set, which selects the real service: "
            "pass --model NAME, or unset the key to use the stand-in"
        )
    prefix = f"example-{Path(sys.argv[0]).stem}"  # a separate queue per example, also on one Redis
    with contextlib.ExitStack() as stack:
        url = os.environ.get("REDIS_URL")
        if url:
            print("Redis: the one of REDIS_URL")
        else:
            url, kind = stack.enter_context(private_redis())
            print(f"Redis: {kind}")
        if has_key:
            print(f"Model: {chosen}\n")
            yield {"redis_url": url, "model": chosen, "queue_prefix": prefix}
            return
        provider = stack.enter_context(StandInProvider(model))
        print("Model: the stand-in (set OPENAI_API_KEY and pass --model NAME for a real one)\n")
        yield {
            "redis_url": url,
            "model": "stand-in-model",
            "openai_base_url": provider.base_url,
            "openai_api_key": provider.api_key,
            "queue_prefix": prefix,
        }
