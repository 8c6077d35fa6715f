"""Define the model script: its turn and its outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from assistant_queue.testing.provider.wordings import Kind

Protocol = Literal["responses", "assistants", "chat_completions"]


@dataclass(frozen=True, slots=True)
class OutputGiven:
    """Tool output of the client: the call, the function's name and the output's text."""

    call_id: str
    name: str
    output: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Turn that a model script has to answer.

    Attributes:
        protocol: `responses`, `assistants` or `chat_completions`.
        conversation_id: The conversation or thread; None for a response that is bound to neither,
            and for chat completions.
        run_id: The response, run or completion this outcome is for.
        user_texts: The unanswered user texts, in order; the same through all rounds of tool calls.
        instructions: Those in force (on Assistants: the run's, or the assistant's, then the
            additional ones).
        tools: The names of the functions offered.
        tool_outputs: The outputs given so far in this turn, in order.
        round: How many times tool outputs were given in this turn; 0 at first.
        metadata: The metadata of the response, run or completion.
        messages: Everything the model was given, in order; of chat completions only.
    """

    protocol: Protocol
    conversation_id: str | None
    run_id: str
    user_texts: tuple[str, ...]
    instructions: str | None = None
    tools: tuple[str, ...] = ()
    tool_outputs: tuple[OutputGiven, ...] = ()
    round: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of an answer beyond the words that are read and written.

    Assistants adds them up and reports no parts, as the provider does.

    Attributes:
        cached: Read from the provider's cache; a part of the input.
        cache_write: Written to the cache; a part of the input.
        reasoning: Thought, and not shown; a part of the output.
    """

    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.cached + other.cached,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
        )


class Reply:
    """The model answers with one or several messages (or none)."""

    def __init__(
        self,
        *texts: str,
        chunks: int = 2,
        delay: float | None = None,
        tokens: Tokens = Tokens(),
    ) -> None:
        """Describe the answer.

        Args:
            texts: One string for each message; no string is a run that ends without a reply.
            chunks: In how many deltas a stream carries each message.
            delay: Seconds the answer takes, spread over its deltas; None takes the provider's
                `latency`.
            tokens: Tokens that the answer took beyond its words.
        """
        self.texts = texts
        self.chunks = chunks
        self.delay = delay
        self.tokens = tokens


class ToolCalls:
    """The model asks for functions to be called, all in one round."""

    def __init__(
        self,
        calls: Sequence[tuple[str, Mapping[str, object] | str]],
        *,
        text: str | None = None,
        delay: float | None = None,
        tokens: Tokens = Tokens(),
    ) -> None:
        """Describe the calls.

        Args:
            calls: Pairs of a function's name and its arguments: a mapping, or a string sent as it
                is (bad JSON, say).
            text: A message the model says before it calls.
            delay: Seconds until the calls are made; None takes the provider's `latency`.
            tokens: Tokens that the answer took beyond its words.
        """
        self.calls = tuple(
            (name, args if isinstance(args, str) else json.dumps(args)) for name, args in calls
        )
        self.text = text
        self.delay = delay
        self.tokens = tokens


@dataclass(frozen=True, slots=True)
class OutputItems:
    """Outcome with other output items: reasoning, custom tool calls, approval requests.

    Of Responses only: elsewhere it is a reply without a message.

    Attributes:
        items: The items in the protocol's own words; an `id` is made up where they have none.
        delay: Seconds until then; None takes the provider's `latency`.
    """

    items: Sequence[Mapping[str, object]]
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class RunFailure:
    """The run fails after it was accepted: `failed` inside HTTP 200.

    Attributes:
        code: `server_error`, `rate_limit_exceeded`, `invalid_prompt` or any other word.
        message: What the provider says about it.
        delay: Seconds until then; None takes the provider's `latency`.
        as_error_event: A stream ends with an `error` event instead of the failed run.
        text: What the model said before it failed.
        kind: A kind of trouble, reported in this server's words instead of `code` and `message`.
    """

    code: str = "server_error"
    message: str = "The server had an error while processing your request. Sorry about that!"
    delay: float | None = None
    as_error_event: bool = False
    text: str | None = None
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class IncompleteReply:
    """The model is cut short: status `incomplete`, and what it said so far is stored.

    Attributes:
        reason: None takes the usual one: `max_output_tokens`, on Assistants
            `max_completion_tokens`, of a chat completion `length`.
        text: What it said so far.
        delay: Seconds until then; None takes the provider's `latency`.
    """

    reason: str | None = None
    text: str = "Once upon a"
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """The run stays in progress until it is cancelled, it expires, or the provider stops."""


Outcome = Reply | ToolCalls | OutputItems | RunFailure | IncompleteReply | Never | str
ModelScript = Callable[[Turn], Outcome]


def as_reply(outcome: Reply | OutputItems | str) -> Reply:
    """A plain string is a reply; items of another protocol are one that says nothing."""
    if isinstance(outcome, OutputItems):
        return Reply()
    return Reply(outcome) if isinstance(outcome, str) else outcome


def tokens_of(outcome: Outcome) -> Tokens:
    """Return the tokens that an outcome takes beyond its words."""
    return outcome.tokens if isinstance(outcome, Reply | ToolCalls) else Tokens()


def echo(turn: Turn) -> Outcome:
    """Answer with every user text of the turn: the default model."""
    return Reply("You said: " + " | ".join(turn.user_texts))


def say_in_order(*outcomes: Outcome) -> ModelScript:
    """A model that gives these outcomes one after the other, and the last one from then on.

    Args:
        outcomes: At least one. Each round of tool calls takes the next.
    """
    if not outcomes:
        raise ValueError("say_in_order needs at least one outcome")
    remaining = list(outcomes)

    def model(_turn: Turn) -> Outcome:
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    return model
