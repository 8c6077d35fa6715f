"""The stand-in's model in the demo: a script, a tool for order numbers, and a default reply."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from assistant_queue.cli.output import shorten
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome

TOOL = "order_status"
_ORDER = re.compile(r"#(\d{4,6})\b")
_QUOTED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One entry of the script.

    Attributes:
        about: Words of the message that this answers.
        reply: What the model says; None leaves it to the order tool or to the general answer.
        seconds: How long it takes.
        fails_once: The first run over it fails at the provider.
    """

    about: str
    reply: str | None = None
    seconds: float = 0.9
    fails_once: bool = False


class DemoModel:
    """The model.

    Called on the provider's thread; gives the same answer to the same turn, except for the scripted
    failures.
    """

    def __init__(self, script: Sequence[Says], fails_every: int | None = None) -> None:
        """Follow a script; with `fails_every`, each nth turn fails once."""
        self._script = script
        self._fails_every = fails_every
        self._turns: set[tuple[str | None, tuple[str, ...]]] = set()
        self._failed: set[str] = set()

    def __call__(self, turn: Turn) -> Outcome:
        """Return the outcome of one turn."""
        if turn.tool_outputs:
            return Reply(
                " ".join(_tell(output.output) for output in turn.tool_outputs), chunks=8, delay=0.7
            )
        said = "\n".join(turn.user_texts)
        entry = next((entry for entry in reversed(self._script) if entry.about in said), None)
        if self._fails(turn, entry):
            return RunFailure(delay=0.5)
        orders = list(dict.fromkeys(_ORDER.findall(said)))
        if orders and TOOL in turn.tools:
            return ToolCalls([(TOOL, {"order": order}) for order in orders], delay=0.5)
        if entry is not None and entry.reply is not None:
            return Reply(entry.reply, chunks=12, delay=entry.seconds)
        return Reply(
            _answer(turn.user_texts), chunks=8, delay=0.4 + zlib.crc32(said.encode()) % 900 / 1000
        )

    def _fails(self, turn: Turn, entry: Says | None) -> bool:
        key = (turn.conversation_id, turn.user_texts)
        is_new = key not in self._turns
        self._turns.add(key)
        if entry is not None and entry.fails_once and entry.about not in self._failed:
            self._failed.add(entry.about)
            return True
        return (
            is_new and self._fails_every is not None and len(self._turns) % self._fails_every == 0
        )


def _tell(output: str) -> str:
    found = json.loads(output)
    if "order" not in found:
        return "I cannot look that order up at the moment."
    return f"Order #{found['order']} {found['news']}."


def _answer(texts: Sequence[str]) -> str:
    last = shorten(texts[-1], _QUOTED) if texts else ""
    if len(texts) == 1:
        return f"About “{last}”: here is your answer."
    return f"One answer to your {len(texts)} messages, up to “{last}”."
