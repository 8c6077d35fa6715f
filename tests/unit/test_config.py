"""Options: validated once, with messages that say what is wrong, where, and what to do."""

from __future__ import annotations

import math
import os
from typing import Any, get_type_hints

import pytest

from assistant_queue.config import (
    DEFAULT_INSTRUCTIONS,
    ENV_PREFIX,
    Config,
    Options,
    configure,
    to_ms,
)
from assistant_queue.errors import AssistantQueueError, ConfigurationError, UnknownOption

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith((ENV_PREFIX, "OPENAI_", "REDIS_")):
            monkeypatch.delenv(name)


# --- where a value comes from ---------------------------------------------------------------------


def test_defaults_are_those_of_the_documentation() -> None:
    config = configure({})
    assert (config.queue_prefix, config.message_delay, config.window, config.after_run) == (
        "assistant",
        10.0,
        "fixed",
        "immediate",
    )
    assert (config.max_wait, config.max_batch_size, config.max_pending) == (None, None, None)
    assert (config.max_attempts, config.backoff.type, config.backoff.delay, config.retry_for) == (
        3,
        "exponential",
        5.0,
        600.0,
    )
    assert (
        config.concurrency,
        config.lock_duration,
        config.run_timeout,
        config.callback_timeout,
    ) == (5, 30.0, 600.0, 60.0)
    assert (config.request_timeout, config.stream_idle_timeout, config.grace) == (30.0, 120.0, 35.0)
    assert (config.default_instructions, config.remove_on_complete, config.result_ttl) == (
        DEFAULT_INSTRUCTIONS,
        True,
        86400.0,
    )
    assert (config.thread_ids, config.after_failure, config.redis_url) == (
        "auto",
        "continue",
        "redis://localhost:6379/0",
    )


@pytest.mark.parametrize(
    ("option", "variable", "by_keyword", "expected"),
    [
        ("redis_url", ("REDIS_URL", "redis://env/1"), "redis://keyword/2", "redis://env/1"),
        (
            "redis_url",
            ("ASSISTANT_QUEUE_REDIS_URL", "redis://env/1"),
            "redis://keyword/2",
            "redis://env/1",
        ),
        ("openai_base_url", ("OPENAI_BASE_URL", "http://env"), "http://keyword", "http://env"),
        ("assistant_id", ("OPENAI_ASSISTANT_ID", "asst_env"), "asst_keyword", "asst_env"),
        ("model", ("ASSISTANT_QUEUE_MODEL", "env-model"), "keyword-model", "env-model"),
        ("message_delay", ("ASSISTANT_QUEUE_MESSAGE_DELAY", "2.5"), 7.0, 2.5),
        ("max_attempts", ("ASSISTANT_QUEUE_MAX_ATTEMPTS", "9"), 4, 9),
        ("thread_ids", ("ASSISTANT_QUEUE_THREAD_IDS", "mapped"), "provider", "mapped"),
        ("remove_on_complete", ("ASSISTANT_QUEUE_REMOVE_ON_COMPLETE", "false"), True, False),
        ("queue_prefix", ("ASSISTANT_QUEUE_QUEUE_PREFIX", "bots"), "other", "bots"),
    ],
)
def test_a_keyword_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    variable: tuple[str, str],
    by_keyword: Any,
    expected: Any,
) -> None:
    assert getattr(configure({}), option) != expected
    monkeypatch.setenv(*variable)
    assert getattr(configure({}), option) == expected
    assert getattr(configure({option: by_keyword}), option) == by_keyword


@pytest.mark.parametrize("name", Config.model_fields)
def test_a_variable_that_is_not_documented_is_not_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = getattr(configure({}), name)
    for variable in {name, name.upper()} - {
        "REDIS_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "redis_url",
        "openai_api_key",
        "openai_base_url",
    }:
        monkeypatch.setenv(variable, "[[7")
    assert getattr(configure({}), name) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"message_delay": 10_000}, ["message_delay is 10000 seconds, that is 2.8 hours"]),
        ({"message_delay": 3600, "run_timeout": 86_400, "lock_duration": 30}, []),
        (
            {"lock_duration": 30_000, "attachment_wait": 7200},
            ["attachment_wait is 7200", "lock_duration is 30000"],
        ),
        ({"window": "sliding", "max_wait": 60_000}, ["max_wait is 60000"]),
        (
            {"callback_timeout": 60_000, "backoff": {"delay": 5000}, "run_timeout": 600_000},
            ["callback_timeout is 60000", "run_timeout is 600000", "backoff.delay is 5000"],
        ),
        ({"retry_for": 600_000, "event_ttl": 3_600_000}, ["retry_for is 600000", "event_ttl is"]),
        ({"retry_for": 86_400, "result_ttl": 30 * 86_400, "event_ttl": 7 * 86_400}, []),
    ],
)
def test_what_looks_like_milliseconds_is_warned_of(
    options: dict[str, Any], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    configure(options)
    # A worker of an earlier test may log on its own thread meanwhile.
    records = [one for one in caplog.records if one.name.startswith("assistant_queue.config")]
    assert [record.levelname for record in records] == ["WARNING"] * len(said)
    for record, words in zip(records, said, strict=True):
        assert record.getMessage().startswith(words)
        assert record.getMessage().endswith("options are in seconds, not in milliseconds")


def test_structured_options_come_from_the_environment_as_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_BACKOFF", '{"type": "fixed", "delay": 1}')
    monkeypatch.setenv("ASSISTANT_QUEUE_RUN_OPTIONS", '{"temperature": 0.2}')
    config = configure({})
    assert (config.backoff.type, config.backoff.delay, config.run_options) == (
        "fixed",
        1.0,
        {"temperature": 0.2},
    )


def test_the_key_comes_from_the_environment_and_is_no_plain_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    key = configure({}).openai_api_key
    assert key is not None
    assert key.get_secret_value() == SECRET


def test_an_unreadable_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_TOOLS", "[not json")
    with pytest.raises(ConfigurationError, match="tools"):
        configure({})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "ASSISTANT_QUEUE_MAX_ATTEMPTS",
            "many",
            r"max_attempts \(from ASSISTANT_QUEUE_MAX_ATTEMPTS\): ",
        ),
        (
            "ASSISTANT_QUEUE_BACKOFF",
            "slow",
            r"backoff \(from ASSISTANT_QUEUE_BACKOFF\): cannot be read: it is JSON",
        ),
        (
            "OPENAI_BASE_URL",
            "here",
            r"openai_base_url \(from OPENAI_BASE_URL\): must begin with http",
        ),
    ],
)
def test_a_bad_variable_is_a_typed_error_that_names_its_option_and_itself(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=says):
        configure({})


def test_a_bad_keyword_is_not_blamed_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_MAX_ATTEMPTS", "9")
    with pytest.raises(ConfigurationError, match=r"^max_attempts: "):
        configure({"max_attempts": 0})


@pytest.mark.parametrize(
    "variable",
    [
        "REDIS_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "ASSISTANT_QUEUE_MODEL",
        "ASSISTANT_QUEUE_MAX_PENDING",
    ],
)
def test_a_variable_that_is_empty_is_not_set(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "")
    assert configure({}) == configure({"redis_url": "redis://localhost:6379/0"})


@pytest.mark.parametrize(
    "option",
    [
        "message_delay",
        "retry_for",
        "lock_duration",
        "run_timeout",
        "callback_timeout",
        "request_timeout",
        "stream_idle_timeout",
        "result_ttl",
        "event_ttl",
        "journal_ttl",
    ],
)
def test_a_time_of_many_years_is_no_time(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        configure({option: 1e12})


# --- the backend ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [{"model": "m"}, {"prompt": "pmpt_1"}, {"backend": object()}])
def test_a_backend_chosen_by_keyword_wins_over_an_assistant_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]
) -> None:
    monkeypatch.setenv("OPENAI_ASSISTANT_ID", "asst_env")
    config = configure(chosen)
    assert config.assistant_id is None
    (name,) = chosen
    assert getattr(config, name) == chosen[name]


def test_an_assistant_chosen_by_keyword_wins_over_a_model_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_MODEL", "m")
    config = configure({"assistant_id": "asst_1"})
    assert (config.assistant_id, config.model) == ("asst_1", None)


@pytest.mark.parametrize(
    "options", [{"assistant_id": "a", "model": "m"}, {"assistant_id": "a", "prompt": "p"}]
)
def test_an_assistant_and_a_model_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="give one of them"):
        configure(options)


def test_an_assistant_and_a_model_of_the_environment_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_MODEL", "m")
    monkeypatch.setenv("OPENAI_ASSISTANT_ID", "asst_env")
    with pytest.raises(ConfigurationError, match="give one of them"):
        configure({})


def test_a_backend_of_ones_own_excludes_a_model() -> None:
    with pytest.raises(ConfigurationError, match="leave out model"):
        configure({"backend": object(), "model": "m"})


def test_a_model_may_come_with_a_prompt() -> None:
    config = configure({"model": "m", "prompt": {"id": "pmpt_1", "version": "2"}})
    assert config.prompt == {"id": "pmpt_1", "version": "2"}


CHAT = "chat_completions"


def test_chat_completions_is_chosen_by_its_protocol() -> None:
    config = configure(
        {"model": "m", "protocol": CHAT, "history": 0, "history_tokens": 100, "count_tokens": len}
    )
    assert config.fingerprint == {"backend": CHAT, "model": "m", "tools": False}
    assert (config.history, config.history_tokens, config.count_tokens) == (0, 100, len)
    assert configure({"model": "m", "protocol": "responses"}).fingerprint["backend"] == "responses"
    assert (
        configure({"assistant_id": "a", "protocol": "assistants"}).fingerprint["backend"]
        == "assistants"
    )
    assert configure({"protocol": CHAT}).fingerprint is None, "a producer need not know the model"


@pytest.mark.parametrize(
    ("options", "what_to_do"),
    [
        ({"protocol": CHAT, "prompt": "p"}, "leave out prompt="),
        ({"protocol": CHAT, "assistant_id": "a", "model": "m"}, "leave out assistant_id="),
        ({"protocol": CHAT, "backend": print}, "leave out backend="),
        ({"protocol": "assistants", "model": "m"}, "goes with assistant_id=: leave out model="),
        ({"protocol": "responses", "assistant_id": "a"}, "goes with model= or prompt="),
        ({"model": "m", "history": 5}, "belong to protocol='chat_completions'"),
        ({"backend": print, "history_tokens": 5}, r"FunctionBackend\(function, history=N\)"),
        ({"model": "m", "protocol": CHAT, "count_tokens": len}, "give that, too"),
    ],
)
def test_a_protocol_and_what_does_not_go_with_it_exclude_each_other(
    options: dict[str, Any], what_to_do: str
) -> None:
    with pytest.raises(ConfigurationError, match=what_to_do):
        configure(options)


def test_a_protocol_of_the_environment_gives_way_to_a_keyword(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_PROTOCOL", CHAT)
    monkeypatch.setenv("ASSISTANT_QUEUE_MODEL", "m")
    monkeypatch.setenv("ASSISTANT_QUEUE_HISTORY", "7")
    monkeypatch.setenv("OPENAI_ASSISTANT_ID", "asst_of_something_else")
    found = configure({})
    assert (found.fingerprint, found.history) == (
        {"backend": CHAT, "model": "m", "tools": False},
        7,
    )
    assert configure({"assistant_id": "a"}).fingerprint == {
        "backend": "assistants",
        "assistant": "a",
        "tools": False,
    }
    assert configure({"prompt": "p"}).fingerprint["backend"] == "responses"
    assert configure({"backend": print}).protocol is None
    assert configure({"model": "another"}).fingerprint == {
        "backend": CHAT,
        "model": "another",
        "tools": False,
    }


# --- bad values -----------------------------------------------------------------------------------

BAD_VALUES: dict[str, list[Any]] = {
    "redis_url": [None, 5, True],
    "openai_api_key": [5, True, "", "  ", "sk-1\n", "sk 1", "sk-1\u200b"],
    "openai_base_url": [5, True, "", " ", "localhost:8000", "ftp://here"],
    "openai_client": ["a client", 5],
    "redis": ["redis://here", 5, [], {}, object(), object, lambda: None],
    "assistant_id": [5, True, "", " "],
    "model": [5, True, "", " \n"],
    "prompt": [5, True, "", " ", {}],
    "tools": ["weather", 5, ["weather"], True],
    "backend": ["responses", 5, True],
    "protocol": ["chat", "Responses", 5, True],
    "reasoning_tags": ["Strip", "drop", 5, True, None],
    "history": [-1, 1001, 1.5, "few", True],
    "history_tokens": [0, -1, 1.5, "few", True],
    "count_tokens": ["len", 5, True],
    "queue_prefix": ["", " bots", "my bots", "bots\n", "b\x00t", "x" * 129, None, True],
    "message_delay": [1e10, -1, "soon", None, math.inf, math.nan, True],
    "window": ["open", None, True],
    "max_wait": [1e10, -1, 0, "soon", math.inf, True],
    "max_batch_size": [0, -1, 1.5, "few", True],
    "max_batch_chars": [0, -1, 1.5, "few", True],
    "on_stop": ["keep", True, 1, None],
    "flush_when": ["stop", 5, True, [5], ["stop", " "], b"stop", {}, str],
    "separate_authors": [None, "maybe", 5, str],
    "after_run": ["later", None, True],
    "mid_run": ["stop", "", None, True],
    "max_interrupts": [-1, 1.5, "three", None],
    "approval_timeout": [0, -1, "long", None],
    "max_pending": [0, -1, 1.5, True],
    "events": ["sometimes", "", None, True],
    "event_ttl": [0, 0.5, -1, "long", True],
    "event_limit": [99, 0, -1, 1.5, True],
    "journal": [-1, 10_001, 1.5, "many", True],
    "journal_ttl": [0, 0.5, -1, "long", True],
    "max_attempts": [0, -1, 1.5, None, True],
    "backoff": [
        {"type": "linear"},
        {"delay": -1},
        {"delay": "soon"},
        {"delays": 5},
        5,
        True,
        {"delay": math.inf},
    ],
    "retry_for": [-1, None, math.nan, True],
    "concurrency": [0, -1, 100_001, 1.5, True],
    "lock_duration": [0, 0.4, -1, None, math.inf, True],
    "run_timeout": [0, -1, None, math.inf, True],
    "run_mode": ["foreground", "", None, True],
    "poll_rate": [0, -1, None, math.inf, math.nan, "often", True],
    "webhook_secret": [5, True, "", "  "],
    "approval_secret": [5, True, "", "  ", "too short", [], ["x" * 16, 5], {"a": "x" * 16}],
    "callback_timeout": [0, -1, None, math.inf, True],
    "log_tracebacks": [None, 2, "perhaps", [True]],
    "metrics": [None, 2, "some", [True]],
    "delivery_for": [0, -1, None, math.inf, True],
    "delivery_attempts": [0, -1, 1.5, True],
    "delivery_backoff": [{"type": "linear"}, {"delay": -1}, {"max_delay": -1}, {"max": 5}, 5, True],
    "delivery_concurrency": [0, -1, 100_001, 1.5, None, True],
    "on_unknown_delivery": ["drop", "", 1, None],
    "request_timeout": [0, -1, None, math.inf, True],
    "on_context_overflow": ["drop", "", 1, None],
    "stream_idle_timeout": [0, -1, None, math.inf, True],
    "max_tool_rounds": [0, -1, None, True],
    "default_instructions": [5, ["be kind"], True],
    "run_options": [
        5,
        "hot",
        None,
        True,
        {"stream": True},
        {"metadata": {}},
        {"conversation": "c"},
        {"input": []},
        {"background": True},
    ],
    "remove_on_complete": ["perhaps", None, 5],
    "result_ttl": [0, -1, None, math.inf, True],
    "thread_ids": ["both", None, True],
    "after_failure": ["stop", None, True],
    "allow_mismatch": ["perhaps", None, 5],
    "allow_eviction": ["perhaps", None, 5],
    "durability": ["replica", None, True, 1],
    "attachment_wait": [0, -1, "soon", math.inf, True],
    "handle_requires_action": ["my.function", 5, True],
    "on_reply": ["my.function", 5, True],
    "fallback_reply": ["", " \n", 5, ["sorry"], True],
    "channels": ["telegram", 5, ["telegram"], [None], None, True],
    "audit": ["sqlite:///audit.db", 5, True, object()],
    "validators": ["max_length", 5, ["max_length"], None, True],
}


def test_a_callback_has_no_more_time_than_a_run() -> None:
    assert configure({}).callback_limit == 60
    assert configure({"run_timeout": 5}).callback_limit == 5
    assert configure({"callback_timeout": 7}).callback_limit == 7


def test_there_is_a_bad_value_for_every_option() -> None:
    assert set(BAD_VALUES) == set(Config.model_fields)


@pytest.mark.parametrize(
    ("option", "value"),
    [(option, value) for option, values in BAD_VALUES.items() for value in values],
)
def test_a_bad_value_is_a_typed_error_that_names_its_option(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure({option: value})
    message = str(caught.value)
    assert isinstance(caught.value, AssistantQueueError)
    assert isinstance(caught.value, ValueError)
    assert message.startswith(option), message
    assert len(message) > len(option) + 10, "it says what is wrong"
    assert "pydantic" not in message
    assert "Value error" not in message


def test_all_bad_values_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure({"max_attempts": 0, "window": "open", "result_ttl": -1})
    assert all(name in str(caught.value) for name in ("max_attempts", "window", "result_ttl"))


@pytest.mark.parametrize(
    ("options", "what_to_do"),
    [
        ({"window": "sliding"}, "needs max_wait"),
        ({"max_wait": 20}, "belongs to window='sliding'"),
        (
            {"window": "sliding", "max_wait": 1, "message_delay": 2},
            "not be shorter than message_delay",
        ),
    ],
)
def test_options_that_contradict_each_other_say_so(
    options: dict[str, Any], what_to_do: str
) -> None:
    with pytest.raises(ConfigurationError, match=what_to_do):
        configure(options)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max_retries", None),
        ("mesage_delay", "message_delay"),
        ("concurency", "concurrency"),
        ("on_replay", "on_reply"),
    ],
)
def test_an_unknown_option_suggests_the_nearest(name: str, near: str | None) -> None:
    with pytest.raises(UnknownOption) as caught:
        configure({name: 1})
    assert repr(name) in str(caught.value)
    if near:
        assert f"did you mean {near!r}?" in str(caught.value)
    else:
        assert "max_attempts" in str(caught.value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    "options",
    [
        {
            "max_batch_size": 1,
            "message_delay": 0,
            "retry_for": 0,
            "lock_duration": 0.5,
            "concurrency": 100_000,
        },
        {"window": "sliding", "message_delay": 2, "max_wait": 2},
        {
            "default_instructions": lambda batch: batch.text,
            "on_reply": print,
            "handle_requires_action": print,
        },
        {"default_instructions": None},
        {
            "tools": ({"type": "function"},),
            "backoff": {"type": "fixed", "delay": 0},
            "run_options": {"temperature": 1},
        },
    ],
)
def test_values_at_their_bounds_are_good(options: dict[str, Any]) -> None:
    configure(options)


def test_options_cannot_be_changed_afterwards() -> None:
    config = configure({})
    with pytest.raises(ValueError, match="frozen"):
        config.message_delay = 1.0  # type: ignore[misc]


# --- secrets --------------------------------------------------------------------------------------


def test_no_secret_is_in_the_repr() -> None:
    config = configure(
        {"openai_api_key": SECRET, "redis_url": f"redis://:{SECRET}@host/0", "model": "m"}
    )
    assert SECRET not in repr(config)
    assert SECRET not in str(config)


@pytest.mark.parametrize(
    "bad",
    [
        {"redis_url": [SECRET]},
        {"openai_api_key": [SECRET]},
        {"openai_base_url": [SECRET]},
        {"backoff": SECRET},
    ],
)
def test_no_value_is_repeated_in_an_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(bad)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_no_value_of_the_environment_is_repeated_in_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_TOOLS", f'["{SECRET}')
    with pytest.raises(ConfigurationError) as caught:
        configure({})
    assert SECRET not in str(caught.value)


# --- the rest -------------------------------------------------------------------------------------


def test_the_keywords_of_the_type_checker_are_the_options() -> None:
    assert set(get_type_hints(Options)) == set(Config.model_fields)


def test_every_option_is_documented_and_says_which_process_reads_it() -> None:
    for name, one in Config.model_fields.items():
        assert one.description, name
        extra = one.json_schema_extra
        assert isinstance(extra, dict), name
        assert extra.get("where", "worker") in ("worker", "producer", "both"), name


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [(0, 0), (0.0001, 1), (0.001, 1), (0.0011, 2), (1.1, 1100), (0.3, 300), (86400, 86_400_000)],
)
def test_seconds_become_milliseconds_rounded_up(seconds: float, ms: int) -> None:
    assert to_ms(seconds) == ms
