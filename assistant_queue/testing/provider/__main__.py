"""`python -m assistant_queue.testing.provider`: a stand-in provider in a process of its own, for demos and benchmarks."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from assistant_queue.testing.provider import NAMED, StandInProvider


def main() -> None:
    """Serve until interrupted; the first line of output says where, as JSON."""
    parser = argparse.ArgumentParser(prog="assistant_queue.testing.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds each answer of the model takes")
    parser.add_argument("--api-key", help="the only key accepted; made up if left out")
    parser.add_argument("--personality", choices=sorted(NAMED), help="the server to be; OpenAI's own if left out")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    served = StandInProvider(latency=options.latency, api_key=options.api_key, port=options.port, personality=options.personality)
    with served as provider:
        where = {"base_url": provider.base_url, "api_key": provider.api_key, "assistant_id": provider.assistant_id}
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    main()
