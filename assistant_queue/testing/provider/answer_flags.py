"""Describe differences in the answers of compatible servers.

The shape of a chat completion, streamed or whole, and the bytes of a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AnswerFlags:
    """Flags of `Personality` for the answers of Chat Completions. The default is OpenAI's own form.

    Attributes:
        opens_with: The first chunk of a stream: the `role` with an empty text, the role with a
            `null` text, or before it a chunk of `filter_results` without a choice or an id.
        call_ids: The ids of the calls: `unique`, `nine` (nine letters and digits), `numbered` (from
            0 in every round), `empty` or `absent`.
        call_index: The `index` of a call in a stream: `counted`, `zero` for every call, or
            `absent`. With the last two a call's first piece carries its id, as on the servers that
            do this.
        call_pieces: How a call is streamed: `pieces` (name first, then the arguments in pieces),
            `whole` in one chunk, `repeated` (a last piece has all of the arguments once more),
            `twice` (the whole call comes again, with its id), or `never` (announced by
            `finish_reason`, but missing).
        later_pieces: What later pieces of a call say of its id, type and name: `bare` (nothing),
            `typed` (the type again), `blank` ("") or `null`.
        call_arguments: The arguments of a call: `text`, an `object`, or for a call without
            arguments `empty` ("") or `null`.
        legacy_calls: A call is sent in the old field `function_call`, without an id; only the first
            of a round can be.
        ends_calls_with: The `finish_reason` of an answer with calls, `tool_calls` or another word.
        ends_text_with: The `finish_reason` of an answer that ended by itself, `stop` or another
            word.
        finish: Where the `finish_reason` of a stream is: in the `last` chunk, in `every` chunk,
            `early` (text follows it), `absent`, or `null_text` (the string "null" until the last
            chunk).
        usage_place: Where a stream has its usage: in a chunk of its `own` if asked for, in such a
            chunk `with_choice`, in the `last` chunk with choices, inside its choice (`in_choice`),
            or in `every` one; the last three whether asked for or not.
        usage_values: What the usage's numbers are: `numbers`, `texts` ("3"), `nulls`, `floats` or
            `words` ("n/a").
        content: What carries the text: a `text`, the `parts` of a content list, or a list of
            `strings`.
        choice_index: The `index` of the choice: a `number`, a `text`, or `absent`.
        completion_ids: The `id` of a completion: a `text`, a `number`, `null`, `absent`, or
            `changing` in every chunk.
        thinks: Where the model's thoughts are sent before its answer: nowhere (`no`), in
            `reasoning_content`, in `reasoning`, in `reasoning_details`, in `tags` (`<think>` in the
            text) or in thinking `parts` of the content.
        splits_surrogates: A character outside the basic plane comes as two escapes in two chunks.
        empty_answers: Which replies are left out: `never` any, the first to each question (`once`),
            or `always`. In every protocol.
        ignores_stream: An answer is whole although a stream was asked for.
    """

    opens_with: Literal["role", "null", "filter_results"] = "role"
    call_ids: Literal["unique", "nine", "numbered", "empty", "absent"] = "unique"
    call_index: Literal["counted", "zero", "absent"] = "counted"
    call_pieces: Literal["pieces", "whole", "repeated", "twice", "never"] = "pieces"
    later_pieces: Literal["bare", "typed", "blank", "null"] = "bare"
    call_arguments: Literal["text", "object", "empty", "null"] = "text"
    legacy_calls: bool = False
    ends_calls_with: str = "tool_calls"
    ends_text_with: str = "stop"
    finish: Literal["last", "every", "early", "absent", "null_text"] = "last"
    usage_place: Literal["own", "with_choice", "last", "in_choice", "every"] = "own"
    usage_values: Literal["numbers", "texts", "nulls", "floats", "words"] = "numbers"
    content: Literal["text", "parts", "strings"] = "text"
    choice_index: Literal["number", "text", "absent"] = "number"
    completion_ids: Literal["text", "number", "null", "absent", "changing"] = "text"
    thinks: Literal[
        "no", "reasoning_content", "reasoning", "reasoning_details", "tags", "parts"
    ] = "no"
    splits_surrogates: bool = False
    empty_answers: Literal["never", "once", "always"] = "never"
    ignores_stream: bool = False


@dataclass(frozen=True)
class WireFlags:
    """Flags of `Personality` for the bytes of a stream. The default is OpenAI's own form.

    Those of its end are for Chat Completions only, the others for Responses too.

    Attributes:
        content_type: The stream's `Content-Type`; None sends no such header.
        json_type: The `Content-Type` of an answer that is whole; "" sends no such header.
        names_events: The events of Responses have an `event` line; else only the `type` in their
            data names them.
        line_end: What ends a line: `lf`, `crlf` or `cr`.
        keep_alive: What a stream says before each event, and every `keep_alive_s` seconds of
            silence: nothing (`no`), a `comment`, a `ping` (a chunk without choices), or an empty
            `data` line.
        keep_alive_s: Seconds of silence between two signs of life.
        bom: The stream begins with a byte order mark.
        omits_done: `[DONE]` is not sent.
        omits_last_blank_line: The blank line after the last event is not sent.
        cuts_at_the_end: The connection is cut after the last event, without an end of the body.
    """

    content_type: str | None = "text/event-stream; charset=utf-8"
    json_type: str = "application/json"
    names_events: bool = True
    line_end: Literal["lf", "crlf", "cr"] = "lf"
    keep_alive: Literal["no", "comment", "ping", "data"] = "no"
    keep_alive_s: float = 0.5
    bom: bool = False
    omits_done: bool = False
    omits_last_blank_line: bool = False
    cuts_at_the_end: bool = False
