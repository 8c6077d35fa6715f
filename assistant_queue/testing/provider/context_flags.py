"""Describe how a server treats conversations that outgrow its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ContextFlags:
    """Flags of `Personality` for conversations that outgrow the model.

    The default is a model without a limit.

    Attributes:
        context_words: The most words of one request, with all that its conversation or thread
            holds; None for no limit.
        context_outcome: Outcome of a longer one: `refused` (400, `context_length_exceeded`), `unsaid`
            (400, without a reason), or `failed`: it is accepted, and the run fails with
            that code. A run of the Assistants protocol that outgrows the model by its tool outputs
            fails in any case.
        truncation: Effect of `truncation="auto"` of a response: `takes` (the oldest items are left
            out), `ignored`, or `refused` (400, unknown parameter); or the server leaves out what is
            oldest `always`, in every protocol, asked or not.
        context_management: Effect of a `compaction` entry in it: `takes` (a compaction item joins
            the conversation, and nothing before it is read any more), `ignored` or `refused`.
        truncation_strategy: Effect of `last_messages` of a run: `takes`, `ignored` or `refused`.
    """

    context_words: int | None = None
    context_outcome: Literal["refused", "unsaid", "failed"] = "refused"
    truncation: Literal["takes", "ignored", "refused", "always"] = "takes"
    context_management: Literal["takes", "ignored", "refused"] = "takes"
    truncation_strategy: Literal["takes", "ignored", "refused"] = "takes"
