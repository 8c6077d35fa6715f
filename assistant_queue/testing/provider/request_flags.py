"""Differences in the requests that compatible servers take: refusals, and what they insist on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RequestFlags:
    """Flags of `Personality` for requests.

    The default is OpenAI's own server; each refusal is a 400 unless it says otherwise.

    Attributes:
        speaks: The protocols that this server has; the paths of others are unknown.
        keys: Whether the API key is `checked`, or `any` is taken.
        models: The models there are; None for any name.
        moderates: A word: a request that holds it in a user's message is refused by the content
            filter. None for no filter.
        streams: What `stream` does: `takes` as documented, or `refused` (code `unsupported_value`):
            an account that is not verified. Chat Completions and Responses.
        stream_in_background: What `stream` with `background` does (Responses): `takes` as
            documented, or `refused`: one alone is taken.
        background: What `background=True` does: `runs` as documented, `refused` (param
            `background`), or `completes_at_once`: the answer comes when the work is done.
        stream_options: What `stream_options` does: `takes` as documented, or `refused`: a server
            that does not know it.
        input: Whether a response needs an `input` of at least one item even on a conversation:
            `optional` or `required`.
        system_role: What a system message does: `takes`, `refused` (the model's template has no
            such role), `refused_by_value` (the message's role is named as the parameter), or
            `refused_as_developer` (Google's words for it).
        null_content: What `content: null` beside calls does: `takes` or `refused`.
        empty_content: What an empty text as a message's content does: `takes` or `refused`.
        unreadable_arguments: What arguments of a call that are not JSON do, `""` above all: `takes`
            or `refused`.
        call_id_form: The ids of calls that are taken: `any`, `nine` (nine letters and digits) or
            `call_` (with that prefix).
        wants_turns: Messages that do not take turns, user and assistant, tool rounds aside, are
            refused: some models' templates.
        after_tool: What may follow a tool message: `anything`, or only the `assistant` or another
            tool message.
        last_role: Role of the last message: `any`, or `user_or_tool`.
        reply_limit: The field for the longest reply: `both` are known, only `max_tokens`, or only
            `max_completion_tokens`.
        unknown_fields: What a field that OpenAI does not know does: it is `refused` in OpenAI's
            words, `ignored`, `forbidden` (422, a list with `extra_forbidden`) or `unsupported`
            (Groq's words for it).
        unknown_options: Fields of a request that OpenAI knows and this server does not: treated
            like unknown ones.
        wants_reasoning: A tool round is refused if its assistant message lacks the
            `reasoning_content` that it came with.
        open_calls: What a conversation with an unanswered call does to a response: it is `refused`,
            and outputs heal it together with what else is said, or the response `fails`, and only
            outputs in their own request heal it.
        resumes_streams: A background response can be streamed again; else it is shown as JSON
            instead.
    """

    speaks: tuple[Literal["responses", "assistants", "chat_completions"], ...] = (
        "responses",
        "assistants",
        "chat_completions",
    )
    keys: Literal["checked", "any"] = "checked"
    models: tuple[str, ...] | None = None
    moderates: str | None = None
    streams: Literal["takes", "refused"] = "takes"
    stream_in_background: Literal["takes", "refused"] = "takes"
    background: Literal["runs", "refused", "completes_at_once"] = "runs"
    stream_options: Literal["takes", "refused"] = "takes"
    input: Literal["optional", "required"] = "optional"
    system_role: Literal["takes", "refused", "refused_by_value", "refused_as_developer"] = "takes"
    null_content: Literal["takes", "refused"] = "takes"
    empty_content: Literal["takes", "refused"] = "takes"
    unreadable_arguments: Literal["takes", "refused"] = "takes"
    call_id_form: Literal["any", "nine", "call_"] = "any"
    wants_turns: bool = False
    after_tool: Literal["anything", "assistant"] = "anything"
    last_role: Literal["any", "user_or_tool"] = "any"
    reply_limit: Literal["both", "max_tokens", "max_completion_tokens"] = "both"
    unknown_fields: Literal["refused", "ignored", "forbidden", "unsupported"] = "refused"
    unknown_options: tuple[str, ...] = ()
    wants_reasoning: bool = False
    open_calls: Literal["refused", "fails"] = "refused"
    resumes_streams: bool = True
