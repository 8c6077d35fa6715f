"""Emit one completion in its server's form: order and content of its chunks, and its end."""

from __future__ import annotations

import asyncio

from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.chat_calls import new_call, pieces_of
from assistant_queue.testing.provider.chat_wire import (
    DONE,
    StreamedText,
    content,
    data,
    thought,
    usage_json,
)
from assistant_queue.testing.provider.error_bodies import error_event
from assistant_queue.testing.provider.script import ToolCalls
from assistant_queue.testing.provider.sse import Tape
from assistant_queue.testing.provider.state import Json, count_words
from assistant_queue.testing.provider.stream_style import sign_of_life

_THOUGHT = "Let me think about it."
_LAST_OF_BASIC_PLANE = 0xFFFF


class Voice:
    """Emit one completion.

    1. `begin`, then `think`, `say` and `call` as the model decides, then `end` or `fail`.
    2. Each puts chunks on the tape, if the answer is a stream, and keeps what a whole answer says.
    """

    def __init__(self, streamed: StreamedText, tape: Tape | None, given: int) -> None:
        """Prepare to emit.

        Args:
            streamed: The completion so far.
            tape: Where chunks go; None for a whole answer.
            given: The words of the request, for the usage.
        """
        self._streamed = streamed
        self._tape = tape
        self._given = given
        self._server = streamed.server
        self._held: Json | None = None
        self._has_thought = False

    def begin(self) -> None:
        """Emit the first chunk, which names the role."""
        opening: Json = {"role": "assistant", "content": "", "refusal": None}
        if self._server.opens_with == "filter_results":
            results = [
                {
                    "prompt_index": 0,
                    "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
                }
            ]
            self._play(
                data(
                    {
                        "choices": [],
                        "created": 0,
                        "id": "",
                        "model": "",
                        "object": "",
                        "prompt_filter_results": results,
                    }
                )
            )
        self._put(
            {"role": "assistant", "content": None} if self._server.opens_with == "null" else opening
        )

    async def keep_alive(self) -> None:
        """Emit signs of life while the stream is open."""
        sign = sign_of_life(self._server)
        while sign and self._tape is not None and not self._tape.is_closed:
            await asyncio.sleep(self._server.keep_alive_s)
            if not self._tape.is_closed:
                self._tape.put(sign)

    def think(self) -> None:
        """Emit the model's reasoning, once, before its text or calls; most servers emit none."""
        if self._server.thinks == "no" or self._has_thought:
            return
        self._has_thought = True
        self._streamed.thought = _THOUGHT
        if self._server.thinks == "tags":
            for piece in ("<think>", f"\n{_THOUGHT}\n", "</think>\n\n"):
                self._say(piece)
        elif self._server.thinks == "parts":
            self._put(
                {
                    "content": [
                        {"type": "thinking", "thinking": [{"type": "text", "text": _THOUGHT}]}
                    ]
                }
            )
        else:
            self._put(thought(_THOUGHT, self._server))

    def say(self, piece: str) -> None:
        """Emit a piece of the text."""
        if piece:
            self.think()
            self._say(piece)

    def _say(self, piece: str) -> None:
        self._streamed.text = (self._streamed.text or "") + piece
        for part in _halved(piece) if self._server.splits_surrogates else [piece]:
            delta = {"content": content(part, self._server)}
            if not self._holds_back:
                self._put(delta)
                continue
            if self._held is not None:
                self._put(self._held)
            self._held = delta

    @property
    def _holds_back(self) -> bool:
        """Whether the last piece of the text is held back until the end."""
        server = self._server
        return server.finish == "early" or (
            server.omits_last_blank_line and server.finish in {"every", "absent"}
        )

    def call(self, outcome: ToolCalls) -> None:
        """Emit a round of calls."""
        self.think()
        for index, (name, arguments) in enumerate(outcome.calls):
            call = new_call(index, name, arguments, self._server)
            if self._server.call_pieces != "never":
                self._streamed.calls.append(call)
            for delta in pieces_of(index, call, self._server):
                self._put(delta)

    def end(self) -> None:
        """Emit the last chunks: the reason, the usage, and `[DONE]`."""
        streamed = self._streamed
        server = self._server
        if not server.omits_usage:
            streamed.usage = self._usage()
        frames: list[bytes] = []
        if server.finish not in {"every", "absent"}:
            frames.append(data(self._with_usage(streamed.chunk({}, streamed.finish), is_last=True)))
        if self._held is not None:
            frames.append(data(self._chunk(self._held)))
        if streamed.counts and server.usage_place in {"own", "with_choice"}:
            frames.append(data(streamed.last_chunk()))
        if not server.omits_done:
            frames.append(DONE)
        if frames and server.omits_last_blank_line:
            frames[-1] = frames[-1].removesuffix(b"\n")
        for frame in frames:
            self._play(frame)

    def fail(self, problem: ApiProblem) -> None:
        """Emit the error with which the stream ends."""
        if self._held is not None:
            self._put(self._held)
        self._play(error_event(problem, self._server, "chat_completions"))

    def _usage(self) -> Json:
        made = [
            self._streamed.text or "",
            *(str(call["function"]["arguments"]) for call in self._streamed.calls),
        ]
        return usage_json(self._given, count_words(made), self._streamed.tokens, self._server)

    def _put(self, delta: Json) -> None:
        self._play(data(self._chunk(delta)))

    def _chunk(self, delta: Json) -> Json:
        finish = {"every": self._streamed.finish, "null_text": "null"}.get(self._server.finish)
        return self._with_usage(self._streamed.chunk(delta, finish))

    def _with_usage(self, chunk: Json, *, is_last: bool = False) -> Json:
        server = self._server
        if server.omits_usage:
            return chunk
        if server.usage_place == "in_choice" and is_last:
            return {
                **chunk,
                "choices": [{**choice, "usage": self._usage()} for choice in chunk["choices"]],
            }
        has_usage = server.usage_place == "every" or (server.usage_place == "last" and is_last)
        return {**chunk, "usage": self._usage()} if has_usage else chunk

    def _play(self, frame: bytes) -> None:
        if self._tape is not None and not self._tape.is_closed:
            self._tape.put(frame)


def _halved(text: str) -> list[str]:
    """Return the text, cut in the middle of each character that JSON writes as two escapes."""
    pieces = []
    rest = ""
    for char in text:
        if ord(char) <= _LAST_OF_BASIC_PLANE:
            rest += char
            continue
        units = char.encode("utf-16-be", "surrogatepass")
        pieces.append(rest + units[:2].decode("utf-16-be", "surrogatepass"))
        rest = units[2:].decode("utf-16-be", "surrogatepass")
    return [piece for piece in (*pieces, rest) if piece]
