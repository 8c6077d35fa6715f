"""Run a stand-in provider in its own process: `python -m assistant_queue.testing.provider`.

For bots in any language, and for benchmarks.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import threading

from assistant_queue.testing.provider import NAMED, StandInProvider, echo
from assistant_queue.testing.provider.loopback import LOOPBACK
from assistant_queue.testing.provider.script import ModelScript


def model_of(path: str) -> ModelScript:
    """Return the model script that `module:function` names.

    `python -m` looks for modules in the current directory, too.

    Raises:
        argparse.ArgumentTypeError: There is none.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise argparse.ArgumentTypeError(
            f"Invalid model {path!r}: expected module:function, as in mymodel:answer"
        )
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:
        message = (
            f"Invalid model {path!r}: its module cannot be imported: {type(error).__name__}: "
            f"{error}"
        )
        raise argparse.ArgumentTypeError(message) from error
    if not callable(found):
        raise argparse.ArgumentTypeError(
            f"Invalid model {path!r}: {module_name} has no function {name}"
        )
    script: ModelScript = found
    return script


def main() -> None:
    """Serve until interrupted; the first line of output says where, as JSON."""
    parser = argparse.ArgumentParser(prog="assistant_queue.testing.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--host", default=LOOPBACK, help="the IPv4 address to listen at; 0.0.0.0 in a container"
    )
    parser.add_argument(
        "--model",
        type=model_of,
        default=echo,
        metavar="MODULE:FUNCTION",
        help="answers a Turn; without it, texts are repeated",
    )
    parser.add_argument(
        "--latency", type=float, default=0.05, help="seconds each answer of the model takes"
    )
    parser.add_argument("--api-key", help="the only key accepted; made up if left out")
    parser.add_argument(
        "--personality", choices=sorted(NAMED), help="the server to be; OpenAI's own if left out"
    )
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    where_to = {
        "api_key": options.api_key,
        "port": options.port,
        "host": options.host,
        "personality": options.personality,
    }
    with StandInProvider(options.model, latency=options.latency, **where_to) as provider:
        where = {
            "base_url": provider.base_url,
            "api_key": provider.api_key,
            "assistant_id": provider.assistant_id,
        }
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    main()
