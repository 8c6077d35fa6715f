"""The record of one server that the stand-in can be."""

from __future__ import annotations

from dataclasses import dataclass

from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.wordings import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A server that the stand-in can be.

    Attributes:
        title: Its name in the documentation.
        differs: Its differences from OpenAI's server, for the documentation.
        remedy: The queue's response to them, for the documentation.
        personality: The same as flags.
        loses: The kinds of trouble that this server reports as its own failure.
    """

    title: str
    differs: str
    remedy: str
    personality: Personality
    loses: frozenset[Kind] = frozenset()
