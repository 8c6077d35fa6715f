"""The cost of a request while hostile clients, in another process, flood the service.

In CPU time of the service's thread: this holds on a machine that is busy with other things. Times
by the clock, for every kind of flood: `python -m tests.benchmarks hostile`.
"""

from __future__ import annotations

import itertools
import time
from statistics import median

import httpx
import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import fair_turns
from tests.benchmarks.hostile import flooded
from tests.conftest import PATIENCE_S
from tests.web.conftest import Site, running

CALLS = 9
FACTOR = 20
"""Chosen: it is 1 to 3. With uvicorn's own protocols a request takes more than a minute under the
first flood, and without turns forty times its idle time under the second."""


class OtherClients:
    """Requests of clients that send one each."""

    def __init__(self, site: Site) -> None:
        self._url = f"{site.url}/api/threads/t"
        self._clock = time.pthread_getcpuclockid(site.thread.ident)  # type: ignore[arg-type]
        self._addresses = (f"127.0.1.{number}" for number in itertools.count(1))

    def cpu_s(self) -> float:
        """Return the median CPU time of the service's thread during a request."""
        times = []
        for address in itertools.islice(self._addresses, CALLS):
            transport = httpx.HTTPTransport(local_address=address)
            with httpx.Client(transport=transport, timeout=PATIENCE_S) as client:
                began = time.clock_gettime(self._clock)
                assert client.get(self._url).status_code == 200
                times.append(time.clock_gettime(self._clock) - began)
        return median(times)


@pytest.mark.parametrize(("kind", "abreast"), [("pings", 20), ("crowd", 100)])
def test_a_flood_hardly_delays_other_clients(
    kind: str, abreast: int, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_turns, "HOLD_S", 0.1)  # a busy machine takes longer for a request
    monkeypatch.setattr(fair_turns, "LONGEST_S", 1.0)
    with running(queue) as site:
        others = OtherClients(site)
        others.cpu_s()  # the first requests are slower
        idle = others.cpu_s()
        with flooded(site.port, kind, abreast):
            busy = others.cpu_s()
    assert busy < FACTOR * idle
