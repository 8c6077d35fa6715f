"""Settle tool calls during a run of the chaos runner, and log its functions."""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from pathlib import Path
from typing import Self

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import ApprovalNotFound, StoreError
from assistant_queue.testing.chaos.approval_oracle import (
    ApprovalVerdict,
    Settling,
    ToolRun,
    Verdict,
    judge_approvals,
)

LONGEST_S = 1.5
"""Seconds until a call is settled, at most. Chosen: longer than a window, so that messages and kills
come meanwhile."""
_TICK_S = 0.1
_VERDICTS: tuple[Verdict, ...] = ("approve", "approve", "approve", "deny", "answer")


class ToolLog:
    """Functions that were called: a file outside Redis to which all workers append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, call_id: str) -> None:
        """Append one line in one write, so that a killed worker leaves no part."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps([call_id, os.getpid()]).encode() + b"\n")
        finally:
            os.close(file)

    def read(self) -> list[ToolRun]:
        """Return all calls so far."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [ToolRun(*json.loads(line)) for line in lines]


class Operators:
    """Settle each call that waits, after a while; how and when depends on its id alone."""

    def __init__(self, queue: AssistantMessageQueue, log: ToolLog) -> None:
        """Settle nothing yet."""
        self._queue = queue
        self._log = log
        self._seen: dict[str, float] = {}
        self._settled: list[Settling] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name="chaos-operators", daemon=True)

    @classmethod
    def started(cls, queue: AssistantMessageQueue, log: ToolLog) -> Self:
        """Return operators that look for calls."""
        made = cls(queue, log)
        made._thread.start()
        return made

    def judged(self, *, stops: bool = False) -> ApprovalVerdict:
        """Stop, and judge what was settled by what was called; `stops`: batches were stopped."""
        self._ends.set()
        self._thread.join()
        return judge_approvals(self._settled, self._log.read(), stops=stops)

    def _work(self) -> None:
        while not self._ends.wait(_TICK_S):
            try:
                waiting = [one.call_id for one in self._queue.list_approvals(1000)]
            except StoreError:
                continue
            for call_id in waiting:
                since = self._seen.setdefault(call_id, time.monotonic())
                chance = zlib.crc32(call_id.encode())
                if time.monotonic() - since >= LONGEST_S * (chance % 100) / 100:
                    self._settle(call_id, _VERDICTS[chance // 100 % len(_VERDICTS)])

    def _settle(self, call_id: str, verdict: Verdict) -> None:
        counts: bool | None = None
        try:
            if verdict == "approve":
                counts = self._queue.approve(call_id, by="operator")
            elif verdict == "deny":
                counts = self._queue.deny(call_id, by="operator", reason="not today")
            else:
                counts = self._queue.answer_tool(call_id, "it is here", by="operator")
        except ApprovalNotFound:
            return  # an attempt before, which Redis did not answer, has settled it
        except StoreError:
            pass
        self._settled.append(Settling(call_id, verdict, counts))
