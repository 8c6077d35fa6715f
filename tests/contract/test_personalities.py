"""One suite for every personality of the stand-in, on each of its protocols, from a user's view.

A queue plays on a clock, with the worker's own code and real HTTP (`testing/rehearsal.py`), on a
real Redis where there is one: the same calls take a third of the time that a Redis in memory needs
for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, get_args

import pytest
import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import ConfigurationError
from assistant_queue.models import RunResult
from assistant_queue.testing.provider import (
    NAMED,
    IncompleteReply,
    Personality,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    Turn,
    UnknownPersonality,
    echo,
    refuse,
    reply_with,
    trouble,
)
from assistant_queue.testing.provider.error_flags import SHAPES, Speaker
from assistant_queue.testing.provider.script import Protocol
from assistant_queue.testing.provider.troubles import WORDS, wording_of
from assistant_queue.testing.provider.wordings import Kind
from assistant_queue.testing.rehearsal import Rehearsal
from tests.conftest import SERVERS as REDIS_SERVERS
from tests.conftest import RedisServer

OPS = {
    "responses": "responses.create",
    "assistants": "runs.create",
    "chat_completions": "chat.completions.create",
}
SERVERS = [
    (name, protocol) for name, named in NAMED.items() for protocol in named.personality.speaks
]
CHATTING = [name for name, protocol in SERVERS if protocol == "chat_completions"]
# Chosen: the fewest with which a failure that counts differs from one that does not.
ATTEMPTS = 2
# More than `ATTEMPTS`, so that a trouble that used up attempts would be seen.
OFTEN = ATTEMPTS + 1
# More words than the instructions and two turns have, and fewer than six.
FEW_WORDS = 90
# Chosen: the fourth turn is too long, and so is the sixth or seventh, of a shortened conversation.
OUTGROWN = 7
LONG = "a question of quite a few words, so that some of them are too many: "


def named(name: str, **flags: Any) -> Personality:
    return replace(NAMED[name].personality, **flags)


def flags_of(flags: dict[str, Any]) -> str:
    """The name of a case."""
    return ", ".join(f"{name}={value}" for name, value in flags.items()) or "strict"


on_every_server = pytest.mark.parametrize(
    ("name", "protocol"), SERVERS, ids=[f"{name}-{protocol}" for name, protocol in SERVERS]
)
on_every_chat = pytest.mark.parametrize("name", CHATTING)


class Play(Rehearsal):
    """A rehearsal that keeps what was delivered."""

    def __init__(
        self,
        queue: AssistantMessageQueue,
        results: list[RunResult],
        redis_client: Any,
        **options: Any,
    ) -> None:
        super().__init__(queue, **options)
        self.results = results
        self._redis_client = redis_client
        self.op = OPS[
            queue.config.protocol or ("assistants" if queue.config.assistant_id else "responses")
        ]

    def _redis(self) -> Any:
        return self._redis_client or super()._redis()

    @property
    def sent(self) -> int:
        """Number of requests for a run."""
        return len(self.provider.calls(self.op))

    def warm_up(self) -> None:
        """Provoke and remedy this server's refusals, so that faults meet requests that it takes."""
        assert self.ask("warm-up", "hello") == "You said: hello"
        self.results.clear()

    @property
    def reasons(self) -> list[str]:
        return [failed.reason for failed in self.queue.list_failed()]


Begin = Callable[..., Play]


def repeat(turn: Turn) -> Any:
    """Return the last text, without instructions that stand before it if there is no system role."""
    return Reply("You said: " + " | ".join(text.rpartition("\n\n")[2] for text in turn.user_texts))


@pytest.fixture(scope="module")
def real_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a Redis of this file's own; None where no `redis-server` is at hand."""
    if not REDIS_SERVERS:
        yield None
        return
    server = RedisServer(next(iter(REDIS_SERVERS.values())), tmp_path_factory.mktemp("redis"))
    server.start()
    with redis.Redis.from_url(server.url) as client:
        yield client
    server.stop()


@pytest.fixture
def begin(real_redis: Any, prefix: str) -> Iterator[Begin]:
    """`begin(personality, protocol, model, **options)`: a rehearsal of a bot on that server."""
    with ExitStack() as stack:

        def start(
            personality: Personality | str,
            protocol: Protocol,
            model: Any = repeat,
            tools: Any = (),
            **options: Any,
        ) -> Play:
            results: list[RunResult] = []
            kind = (
                {"assistant_id": "asst_1"}
                if protocol == "assistants"
                else {"model": "some-model", "protocol": protocol}
            )
            usual = {"message_delay": 0, "on_reply": results.append, "queue_prefix": prefix}
            queue = AssistantMessageQueue(**{**kind, **usual, **options})
            stack.enter_context(queue)
            for function in tools:
                queue.tool(function)
            play = stack.enter_context(
                Play(queue, results, real_redis, personality=personality, model=model)
            )
            stack.callback(lambda: _no_errors(play.provider))
            return play

        yield start


def _no_errors(provider: StandInProvider) -> None:
    assert provider.model_errors == ()


# --- answers --------------------------------------------------------------------------------------


@on_every_server
def test_a_question_is_answered_with_one_attempt(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol)
    assert play.ask("ann", "hi") == "You said: hi"
    assert [(result.status, result.attempts) for result in play.results] == [("completed", 1)]
    assert play.ask("ann", "and again") == "You said: and again"


@on_every_server
def test_several_messages_are_one_run_and_all_are_heard(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol, echo, message_delay=5)
    for text in ("one", "two", "three"):
        play.say("ann", text)
    play.run_until_idle()
    (result,) = play.results
    assert result.reply is not None
    assert all(word in result.reply for word in ("one", "two", "three"))
    # A server that drops `additional_messages` is found out by a first run over nothing.
    assert (
        len([run for run in play.provider.runs if run.status == "completed" and run.user_texts])
        == 1
    )


@on_every_server
def test_what_is_said_in_pieces_arrives_whole(begin: Begin, name: str, protocol: Protocol) -> None:
    text = "Zwölf Boxkämpfer 😀 jagen\u2028Viktor\r\nquer \\ über {den} data: großen Sylter Deich."
    play = begin(name, protocol, lambda _: Reply(text, chunks=7))
    assert play.ask("ann", "hi") == text


@on_every_server
def test_what_is_cut_short_is_not_taken_for_whole(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol, lambda _: IncompleteReply(text="Once upon"))
    play.ask("ann", "tell me")
    (result,) = play.results
    # A stream without any reason cannot say that it was cut short.
    expected = (
        "completed"
        if named(name).finish == "absent" and protocol == "chat_completions"
        else "incomplete"
    )
    assert (result.status, result.reply) == (expected, "Once upon")


@on_every_server
def test_usage_is_counted_where_it_is_sent_and_never_costs_a_reply(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol)
    play.ask("ann", "one two three")
    (result,) = play.results
    assert result.reply == "You said: one two three"
    server = named(name)
    if server.omits_usage:
        return
    is_asked_for = (
        protocol != "chat_completions"
        or server.stream_options == "takes"
        or server.usage_place in {"last", "every"}
    )
    if is_asked_for and server.usage_values == "numbers" and server.usage_place != "in_choice":
        assert result.usage is not None
        assert result.usage.input_tokens >= 3
        assert result.usage.total_tokens == result.usage.input_tokens + result.usage.output_tokens


# --- tools ----------------------------------------------------------------------------------------


def two_cities(turn: Turn) -> Any:
    if turn.round == 0:
        return ToolCalls([("weather", {"city": "Tokyo"}), ("weather", {"city": "Paris"})])
    return Reply(" and ".join(sorted(output.output for output in turn.tool_outputs)))


def tools(called: list[Any]) -> list[Callable[..., str]]:
    def weather(city: str) -> str:
        """The weather in a city."""
        called.append(city)
        return f"{city}: sunny"

    def now() -> str:
        """The time."""
        called.append("now")
        return "noon"

    return [weather, now]


@on_every_server
def test_two_calls_of_one_round_are_both_made_once(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    called: list[Any] = []
    play = begin(name, protocol, two_cities, tools=tools(called))
    reply = play.ask("ann", "weather?")
    # In the old form there is only one call at a time.
    wanted = (
        ["Tokyo"]
        if named(name).legacy_calls and protocol == "chat_completions"
        else ["Tokyo", "Paris"]
    )
    assert sorted(called) == sorted(wanted)
    assert reply == " and ".join(sorted(f"{city}: sunny" for city in wanted))
    assert play.results[0].attempts == 1


@on_every_server
def test_rounds_follow_each_other_and_the_thread_continues(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    def model(turn: Turn) -> Any:
        if "thanks" in " ".join(turn.user_texts):
            return Reply("You are welcome.")
        if turn.round == 0:
            return ToolCalls([("now", {})], text="Wait.")
        return (
            ToolCalls([("weather", {"city": "Rome"})]) if turn.round == 1 else Reply("Noon, sunny.")
        )

    called: list[Any] = []
    play = begin(name, protocol, model, tools=tools(called))
    assert "Noon, sunny." in str(play.ask("ann", "time and weather?"))
    assert called == ["now", "Rome"]
    assert play.ask("ann", "thanks") == "You are welcome."
    assert [result.attempts for result in play.results] == [1, 1]
    assert play.reasons == []


@on_every_chat
def test_a_history_of_another_server_is_taken(begin: Begin, name: str) -> None:
    """Calls that another server named and answered, sent to this one: its form of ids, thoughts, contents and turns."""
    play = begin("openai", "chat_completions", two_cities, tools=tools([]))
    play.ask("ann", "weather?")
    play.provider.model = lambda turn: Reply(f"{len(turn.user_texts)}")
    play.provider.personality = name
    assert play.ask("ann", "thanks") == "1"
    assert play.results[-1].attempts == 1


# --- each difference of an answer by itself -------------------------------------------------------

ANSWERS: list[dict[str, Any]] = [
    {"call_ids": "nine"},
    {"call_ids": "numbered"},
    {"call_ids": "empty"},
    {"call_ids": "absent"},
    {"call_ids": "absent", "call_index": "absent", "call_pieces": "whole"},
    {"call_index": "zero"},
    {"call_index": "absent"},
    {"call_index": "zero", "call_pieces": "whole"},
    {"call_index": "zero", "later_pieces": "blank"},
    {"call_pieces": "repeated"},
    {"call_pieces": "repeated", "call_index": "zero"},
    {"call_pieces": "twice"},
    {"call_pieces": "twice", "call_index": "absent"},
    {"later_pieces": "typed"},
    {"later_pieces": "blank"},
    {"later_pieces": "null"},
    {"call_arguments": "object"},
    {"call_arguments": "object", "ignores_stream": True},
    {"call_arguments": "null"},
    {"ends_calls_with": "stop"},
    {"ends_calls_with": "TOOL_CALLS"},
    {"ends_text_with": "STOP"},
    {"ends_text_with": "end_turn"},
    {"ends_text_with": "stop_sequence"},
    {"finish": "every"},
    {"finish": "every", "usage_place": "every"},
    {"finish": "early"},
    {"finish": "absent"},
    {"finish": "absent", "omits_done": True},
    {"finish": "null_text"},
    {"usage_place": "with_choice"},
    {"usage_place": "every"},
    {"usage_values": "texts"},
    {"usage_values": "nulls"},
    {"usage_values": "floats"},
    {"usage_values": "words"},
    {"content": "parts"},
    {"content": "strings"},
    {"content": "strings", "ignores_stream": True},
    {"choice_index": "text"},
    {"choice_index": "absent"},
    {"completion_ids": "number"},
    {"completion_ids": "null"},
    {"completion_ids": "absent"},
    {"completion_ids": "changing"},
    {"thinks": "tags"},
    {"thinks": "tags", "ignores_stream": True},
    {"thinks": "parts"},
    {"splits_surrogates": True},
    {"opens_with": "filter_results"},
    {"opens_with": "null"},
    {"content_type": "text/plain"},
    {"content_type": "application/json"},
    {"content_type": None},
    {"ignores_stream": True, "json_type": "text/event-stream"},
    {"ignores_stream": True, "json_type": ""},
    {"line_end": "crlf"},
    {"line_end": "cr"},
    {"keep_alive": "comment"},
    {"keep_alive": "ping"},
    {"keep_alive": "data"},
    {"bom": True},
    {"omits_done": True},
    {"omits_last_blank_line": True},
    {"omits_last_blank_line": True, "omits_done": True, "line_end": "cr"},
    {"cuts_at_the_end": True},
]


def emoji(turn: Turn) -> Any:
    if turn.round == 0:
        return ToolCalls([("weather", {"city": "Köln 😀"}), ("now", {})])
    return Reply(" and ".join(sorted(output.output for output in turn.tool_outputs)), chunks=5)


@pytest.mark.parametrize("flags", ANSWERS, ids=flags_of)
def test_each_difference_of_an_answer_is_read_right(begin: Begin, flags: dict[str, Any]) -> None:
    called: list[Any] = []
    play = begin(Personality(**flags), "chat_completions", emoji, tools=tools(called))
    for _ in range(2):
        assert play.ask("ann", "weather?") == "Köln 😀: sunny and noon"
    assert sorted(called) == sorted(["Köln 😀", "now"] * 2)
    assert [(result.status, result.attempts) for result in play.results] == [("completed", 1)] * 2


@pytest.mark.parametrize("flags", [{}, {"ignores_stream": True}, {"finish": "early"}], ids=flags_of)
def test_half_a_character_does_no_harm(begin: Begin, flags: dict[str, Any]) -> None:
    play = begin(
        Personality(**flags), "chat_completions", lambda _: Reply("hi \ud83d there", chunks=1)
    )
    assert play.ask("ann", "hi") == "hi \ufffd there"
    assert play.ask("ann", "and again") == "hi \ufffd there"


@pytest.mark.parametrize(
    "reason",
    [
        "length",
        "insufficient_system_resource",
        "abort",
        "SAFETY",
        "max_tokens",
        "network_error",
        "who knows",
    ],
)
def test_a_reason_that_is_not_a_good_one_is_an_incomplete_answer(begin: Begin, reason: str) -> None:
    play = begin(
        "openai", "chat_completions", lambda _: IncompleteReply(reason, text="The price is")
    )
    assert play.ask("ann", "hi") == "The price is"
    assert (play.results[0].status, str(play.results[0].incomplete_reason).lower()) == (
        "incomplete",
        reason.lower(),
    )


def test_calls_that_are_announced_and_missing_are_no_answer(begin: Begin) -> None:
    play = begin(Personality(call_pieces="never"), "chat_completions", two_cities, tools=tools([]))
    play.say("ann", "weather?")
    play.run_until_idle()
    assert (play.results, play.reasons) == ([], ["attempts"])


def test_signs_of_life_keep_a_stream_alive_but_not_for_ever(begin: Begin) -> None:
    silent = Personality(keep_alive="comment", keep_alive_s=0.05)
    play = begin(
        silent, "chat_completions", lambda _: Reply("at last", delay=1.0), stream_idle_timeout=0.3
    )
    assert play.ask("ann", "hi") == "at last"
    assert play.results[0].attempts == 1


# --- refusals that another form of the request avoids ---------------------------------------------


@on_every_server
def test_a_refusal_is_remedied_once_and_remembered(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol, two_cities, tools=tools([]))
    play.ask("ann", "one")
    before = len(play.provider.refusals)
    play.ask("ben", "two")
    assert len(play.provider.refusals) == before
    assert [result.attempts for result in play.results] == [1, 1]
    assert play.reasons == []


@pytest.mark.parametrize(
    "flags",
    [
        {"streams": "refused"},
        {"stream_options": "refused"},
        {"stream_options": "refused", "unknown_fields": "forbidden"},
        {"system_role": "refused"},
        {"system_role": "refused_by_value"},
        {"system_role": "refused_as_developer"},
        {"null_content": "refused"},
        {"unreadable_arguments": "refused", "call_arguments": "empty"},
        {"call_id_form": "nine", "call_ids": "nine"},
        {"call_id_form": "nine"},
        {"call_id_form": "call_", "call_ids": "nine"},
        {"wants_turns": True},
        {
            "wants_turns": True,
            "system_role": "refused",
            "null_content": "refused",
            "stream_options": "refused",
            "streams": "refused",
        },
        {"thinks": "reasoning_content", "wants_reasoning": True, "unknown_fields": "ignored"},
        {"thinks": "reasoning", "unknown_fields": "forbidden"},
        {"thinks": "reasoning_details", "unknown_fields": "unsupported"},
        {"thinks": "reasoning_content"},
    ],
    ids=flags_of,
)
def test_each_refusal_is_remedied(begin: Begin, flags: dict[str, Any]) -> None:
    play = begin(Personality(**flags), "chat_completions", two_cities, tools=tools([]))
    assert play.ask("ann", "weather?") == "Paris: sunny and Tokyo: sunny"
    assert play.ask("ann", "again?") == "Paris: sunny and Tokyo: sunny"
    assert [result.attempts for result in play.results] == [1, 1]


@pytest.mark.parametrize(
    ("option", "flags"),
    [
        ("max_tokens", {"reply_limit": "max_completion_tokens"}),
        ("max_completion_tokens", {"reply_limit": "max_tokens"}),
    ],
)
def test_the_bound_of_a_reply_is_called_as_the_server_calls_it(
    begin: Begin, option: str, flags: dict[str, Any]
) -> None:
    play = begin(Personality(**flags), "chat_completions", run_options={option: 50})
    assert play.ask("ann", "hi") == "You said: hi"
    assert len(play.provider.refusals) == 1


@pytest.mark.parametrize(
    "flags",
    [
        {"streams": "refused"},
        {"stream_in_background": "refused"},
        {"background": "refused"},
        {"stream_in_background": "refused", "error_body": "detail"},
        {"background": "refused", "error_body": "detail", "error_codes": "null"},
        {"streams": "refused", "background": "refused"},
        {"input": "required"},
        {"names_events": False, "omits_conversation": True},
        {"line_end": "crlf", "keep_alive": "comment", "bom": True},
    ],
    ids=flags_of,
)
def test_each_refusal_of_a_response_is_remedied(begin: Begin, flags: dict[str, Any]) -> None:
    play = begin(Personality(**flags), "responses", two_cities, tools=tools([]))
    assert play.ask("ann", "weather?") == "Paris: sunny and Tokyo: sunny"
    assert play.ask("ann", "again?") == "Paris: sunny and Tokyo: sunny"
    assert [result.attempts for result in play.results] == [1, 1]
    first = [run.background for run in play.provider.runs]
    assert all(first) == (flags.get("background") != "refused"), (
        "what survives a worker is kept where it can be had"
    )


# --- conversations that outgrow the model ---------------------------------------------------------


@on_every_server
def test_a_conversation_that_outgrows_the_model_is_answered_on(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(named(name, context_words=FEW_WORDS), protocol)
    replies = [play.ask("ann", f"{LONG} {n}") for n in range(OUTGROWN)]
    assert replies == [f"You said: {LONG} {n}" for n in range(OUTGROWN)]
    assert play.reasons == []


@pytest.mark.parametrize(
    "server", [server for server, words in WORDS.items() if "overflow" in words and server != "ogx"]
)
def test_a_prompt_that_is_too_long_is_understood_in_every_servers_words(
    begin: Begin, server: Speaker
) -> None:
    play = begin(
        Personality(
            context_words=FEW_WORDS,
            overflow=server,
            error_event="error" if server == "lmstudio" else "",
        ),
        "chat_completions",
    )
    replies = [play.ask("ann", f"{LONG} {n}") for n in range(OUTGROWN)]
    assert replies == [f"You said: {LONG} {n}" for n in range(OUTGROWN)]
    assert len(play.provider.refusals) > 0
    assert [result.attempts for result in play.results] == [1] * OUTGROWN


@pytest.mark.parametrize("shape", SHAPES)
def test_a_refusal_without_words_is_tried_with_less_history_before_it_is_given_up(
    begin: Begin, shape: Any
) -> None:
    play = begin(Personality(error_body=shape, error_codes="null"), "chat_completions")
    for status in (400, 413, 422):
        for n in range(4):
            play.ask(str(status), f"message {n}")
        play.provider.fault(
            play.op,
            refuse(status, message="Bad"),
            times=None,
            when=lambda request: len(request.body["messages"]) > 5,
        )
        assert play.ask(str(status), "and now?") == "You said: and now?"
        play.provider.clear_faults()
    assert play.reasons == []


# --- empty answers --------------------------------------------------------------------------------


@on_every_server
def test_an_empty_answer_is_asked_for_once_more(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    # Where an input is insisted on, the second question is another one to the stand-in.
    play = begin(named(name, empty_answers="once", thinks="no", input="optional"), protocol)
    assert play.ask("ann", "hi") == "You said: hi"


@on_every_server
def test_an_answer_that_stays_empty_is_incomplete_and_the_fallback_is_said(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(
        named(name, empty_answers="always", thinks="no"), protocol, fallback_reply="Sorry?"
    )
    play.ask("ann", "hi")
    (result,) = play.results
    assert (result.status, result.incomplete_reason, result.reply) == (
        "incomplete",
        "empty",
        "Sorry?",
    )
    tries_messages = (
        protocol == "assistants" and named(name).ignores_additional_messages
    )  # with one run more, once
    assert (
        len([run for run in play.provider.runs if run.status == "completed"]) == 2 + tries_messages
    )


# --- trouble --------------------------------------------------------------------------------------


@on_every_server
def test_what_passes_is_waited_for_and_uses_up_no_attempt(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol, max_attempts=ATTEMPTS)
    play.warm_up()
    attempts = {}
    expected = {}
    for kind in ("rate_limited", "overloaded", "loading", "gateway"):
        is_lost = kind in NAMED[name].loses
        play.provider.fault(play.op, trouble(kind), times=1 if is_lost else OFTEN)
        assert play.ask(kind, "hi") == "You said: hi"
        attempts[kind] = play.results[-1].attempts
        expected[kind] = 2 if is_lost else 1
    assert attempts == expected


@on_every_server
def test_the_wait_that_a_server_asks_for_is_kept(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    wording = wording_of(named(name), "rate_limited")
    told = [wording.message, *wording.headers.values()]
    play = begin(name, protocol)
    play.warm_up()
    play.provider.fault(play.op, trouble("rate_limited", retry_after=100))
    before = play.clock.monotonic()
    assert play.ask("ann", "hi") == "You said: hi"
    assert play.clock.monotonic() - before >= (100 if any("{wait" in text for text in told) else 1)


@on_every_server
def test_a_failure_of_the_server_counts(begin: Begin, name: str, protocol: Protocol) -> None:
    play = begin(name, protocol)
    play.warm_up()
    play.provider.fault(play.op, trouble("server_error"))
    assert play.ask("ann", "hi") == "You said: hi"
    assert play.results[0].attempts == 2
    play.provider.fault(play.op, trouble("server_error"), times=None)
    play.say("ann", "again")
    play.run_until_idle()
    assert play.reasons == ["attempts"] or (
        named(name).list_order == "reshuffled" and play.reasons == ["parked"]
    )


@pytest.mark.parametrize(
    ("name", "protocol"), [one for one in SERVERS if not named(one[0]).errors_in_stream], ids=str
)
def test_a_failure_that_says_when_to_come_back_is_waited_for(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol, max_attempts=ATTEMPTS)
    play.warm_up()
    play.provider.fault(play.op, refuse(500, message="Oops", retry_after=20), times=OFTEN)
    before = play.clock.monotonic()
    assert play.ask("ann", "hi") == "You said: hi"
    assert play.results[0].attempts == 1
    assert play.clock.monotonic() - before >= 20 * OFTEN


@pytest.mark.parametrize("shape", ["openai", "html", "empty", "text"])
def test_a_gateway_that_says_not_now_is_waited_for_whatever_it_says(
    begin: Begin, shape: Any
) -> None:
    server = Personality(error_body=shape, error_codes="null")
    play = begin(server, "chat_completions", max_attempts=ATTEMPTS)
    for status in (425, 429, 498, 502, 503, 504, 529):
        play.provider.fault(play.op, refuse(status, message="not now"), times=OFTEN)
        assert play.ask(str(status), "hi") == "You said: hi"
    assert {result.attempts for result in play.results} == {1}


@on_every_server
def test_a_moderated_prompt_is_sent_once_and_the_thread_continues(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    if "moderated" in NAMED[name].loses:
        pytest.skip("this server does not tell it from its own failure")
    play = begin(named(name, moderates="forbidden"), protocol)
    assert play.ask("ann", "hello") == "You said: hello"
    already = play.sent
    runs = len(play.provider.runs)
    if protocol == "assistants":
        play.provider.fault(play.op, trouble("moderated"))
    receipt = play.say("ann", "a forbidden word")
    play.run_until_idle()
    assert play.status(receipt).status == "failed"
    assert (play.sent - already, len(play.provider.runs) - runs) == (1, 0)
    assert play.reasons == ["refused"]
    assert play.ask("ann", "and now?") == "You said: and now?"


@pytest.mark.parametrize(
    ("name", "protocol"), [one for one in SERVERS if one[1] != "assistants"], ids=str
)
def test_a_model_that_there_is_not_is_asked_for_once_and_named(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(
        named(name, models=("another",), streams="takes", stream_in_background="takes"), protocol
    )
    play.say("ann", "hi")
    play.run_until_idle()
    assert play.sent == 1
    assert play.reasons == ["refused"]
    said = play.queue.list_failed()[0].error.message
    assert "some-model" in said or "odel" in said


@on_every_server
def test_what_only_the_operator_can_change_is_not_repeated(
    begin: Begin, name: str, protocol: Protocol
) -> None:
    play = begin(name, protocol)
    play.warm_up()
    sent = {}
    for kind in ("wrong_key", "no_quota"):
        if kind in NAMED[name].loses:
            continue
        before = play.sent
        fault = play.provider.fault(play.op, trouble(kind), times=None)
        play.say(kind, "hi")
        play.run_until_idle()
        sent[kind] = play.sent - before
        play.provider.clear_faults()
        assert fault.acted == sent[kind]
    assert set(sent.values()) == {1}, sent
    assert set(play.reasons) == {"refused"}


@on_every_chat
def test_half_an_answer_is_never_delivered_and_a_limit_reported_late_uses_up_no_attempt(
    begin: Begin, name: str
) -> None:
    play = begin(name, "chat_completions", max_attempts=ATTEMPTS)
    play.warm_up()
    for kind in ("rate_limited", "overloaded", "server_error"):
        is_counted = kind == "server_error" or named(name).masks_failures
        play.provider.fault(
            play.op,
            reply_with(RunFailure(kind=kind, text="half an ans")),
            times=1 if is_counted else OFTEN,
        )
        assert play.ask(kind, "hi") == "You said: hi"
    assert [result.reply for result in play.results] == ["You said: hi"] * 3


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if shape not in {"html", "text", "empty"}]
)
def test_an_error_after_some_text_is_an_error_in_every_shape(begin: Begin, shape: Any) -> None:
    play = begin(Personality(error_body=shape), "chat_completions")
    play.provider.fault(
        play.op, reply_with(RunFailure("server_error", "Something broke.", text="half an ans"))
    )
    assert play.ask("ann", "hi") == "You said: hi"
    assert play.results[0].attempts == 2


FATES: dict[Kind, str] = {
    "rate_limited": "wait",
    "overloaded": "wait",
    "loading": "wait",
    "gateway": "wait",
    "unknown_path": "wait",
    "server_error": "count",
    "moderated": "final",
    "unknown_model": "final",
    "wrong_key": "final",
    "no_quota": "final",
    "turns": "remedy",
    "null_content": "remedy",
    "overflow": "remedy",
}


@pytest.mark.parametrize("server", [server for server in WORDS if server != "ogx"])
def test_every_servers_words_have_their_fate(begin: Begin, server: Speaker) -> None:
    play = begin(Personality(words=server), "chat_completions", max_attempts=ATTEMPTS)
    found = {}
    expected = {}
    for kind in WORDS[server]:
        fate = FATES[kind]
        if fate == "remedy" or (server, kind) == ("lmstudio", "unknown_path"):
            continue
        before = play.sent
        play.provider.fault(
            play.op, trouble(kind), times={"wait": OFTEN, "count": 1, "final": None}[fate]
        )
        receipt = play.say(kind, "hi")
        play.run_until_idle()
        play.provider.clear_faults()
        state = play.status(receipt)
        found[kind] = (
            state.status,
            play.results[-1].attempts if state.status == "completed" else play.sent - before,
        )
        expected[kind] = {
            "wait": ("completed", 1),
            "count": ("completed", 2),
            "final": ("failed", 1),
        }[fate]
    assert found == expected
    assert set(play.reasons) <= {"refused"}


@pytest.mark.parametrize(
    "name", [name for name, named in NAMED.items() if "responses" not in named.personality.speaks]
)
def test_a_server_without_conversations_says_so(begin: Begin, name: str) -> None:
    play = begin(name, "responses")
    play.say("ann", "hi")
    play.run_until_idle()
    assert "unknown_thread" not in play.reasons
    said = play.queue.list_failed()[0].error.message
    assert "conversations" in said
    assert "chat_completions" in said


def test_the_words_of_each_kind_are_said_by_some_server() -> None:
    assert set(get_args(Kind)) == set(FATES)
    assert set(get_args(Speaker)) == set(WORDS)
    assert set(WORDS["openai"]) == set(FATES)


# --- names ----------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownPersonality, match=r"'chatgpt'.*azure.*vllm") as caught:
        StandInProvider(personality="chatgpt")
    assert isinstance(caught.value, ConfigurationError)
    provider = StandInProvider()
    with pytest.raises(UnknownPersonality):
        provider.personality = "ChatGPT"
    assert provider.personality == Personality()


def test_a_personality_has_a_name_a_title_and_two_sentences() -> None:
    for name, server in NAMED.items():
        assert name.isidentifier()
        assert all((server.title, server.differs, server.remedy))
        assert StandInProvider(personality=name).personality == server.personality
    assert NAMED["openai"].personality == Personality()
