"""Messages that are let in, and messages that are refused with a reason."""

from __future__ import annotations

import time
from typing import Any

import pytest

from assistant_queue import (
    ConfigurationError,
    InvalidArgument,
    Message,
    MessageRefused,
    max_length,
    no_markup,
)
from assistant_queue.config import configure
from assistant_queue.user_code.validator_calls import validate


def message(content: Any, **fields: Any) -> Message:
    return Message(id="m1", content=content, **fields)


def reason(validator: Any, content: Any, **fields: Any) -> str | None:
    try:
        validate([validator], message(content, **fields), "t", 60)
    except MessageRefused as refusal:
        return refusal.reason
    return None


def test_a_message_may_be_as_long_as_the_limit_says() -> None:
    assert reason(max_length(5), "12345") is None
    assert reason(max_length(5), "123456") == "it has 6 characters, the limit is 5"
    parts = [
        {"type": "text", "text": "123"},
        {"type": "image_url", "image_url": {"url": "https://example.org/" + "x" * 99}},
    ]
    assert reason(max_length(5), parts) is None
    assert (
        reason(max_length(5), [*parts, {"type": "input_text", "text": "45"}])
        == "it has 6 characters, the limit is 5"
    )


@pytest.mark.parametrize("limit", [0, -1, 2.5, "5", True, None])
def test_a_limit_is_a_number_from_one_on(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_length"):
        max_length(limit)


HARMLESS = [
    "a < b",
    "a<b and c>d",
    "if x <y and once = 3",
    "1 << 2",
    "List<String> names",
    "<3 you",
    "I <3 JavaScript",
    "<- look",
    "<b>bold</b>",
    "<a href='https://example.org'>link</a>",
    "JavaScript: The Good Parts",
    "I know javascript, and typescript: both",
    "the data: text follows",
    "data:image/png;base64,AAAA",
    "on sale = good",
    "onclick = what?",
    "a description of <scripting>",
    "<scripts>",
    "x < object-oriented",
    "Fish &amp; Chips",
    "5 &lt; 7",
    "typescript:x",
    "metajavascript:x",
    "https://example.org/?a=1&on=2",
    "mouse over <img src='https://example.org/a.png'>",
    "email me <ann@example.org>",
    "<once upon a time>",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_plain_text_and_harmless_markup_go_through(text: str) -> None:
    assert reason(no_markup(), text) is None


MARKUP = {
    "a tag that runs or loads something": [
        "<script>alert(1)</script>",
        "</script>",
        "<SCRIPT SRC=//x>",
        "hi <ScRiPt\n>",
        "<script/x>",
        "< script >",
        "<\tscript>",
        "<\x00script>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&#60;script>",
        "&#x3c;script>",
        "&#0000060script>",
        "&amp;lt;script&amp;gt;",
        "<scr<script>ipt>",
        "<iframe src=x>",
        "<object data=x>",
        "<embed>",
        "<base href=//x>",
        "<meta http-equiv=refresh>",
        "<link rel=import>",
        "<svg>",
        "<math>",
        "\uff1cscript\uff1e",
        "<style>",
        "<template>",
    ],
    "an event handler in a tag": [
        "<img src=x onerror=alert(1)>",
        "<IMG SRC=x OnError = alert(1)>",
        "<b\nonclick=x>",
        "<a href='>' onmouseover=x>",
        "<img/onload=x>",
        "<img src='x'onerror=x>",
        "<body onpageshow\n=\nx>",
        "&lt;img src=x onerror=x&gt;",
        "<x onbegin=y>",
        "<!x onload=y>",
    ],
    "a javascript: address": [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "java\nscript:alert(1)",
        " javascript:alert(1)",
        "[click](javascript:alert(1))",
        "[click](javascript: alert(1))",
        "<a href=javascript:alert(1)>",
        '<a href="javascript: alert(1)">',
        "<a href='&#106;avascript:x'>",
        "&#106avascript:x",
        "javascript&colon;alert(1)",
        "java&Tab;script:x",
        "java&NewLine;script:x",
        "\x01javascript:x",
        "vbscript:msgbox",
        "java\u200bscript:x",
        "j\ta\tv\ta\ts\tc\tr\ti\tp\tt\t:x",
        "javascript\t:x",
        "\uff4aavascript:x",
        "javascript://%0aalert(1)",
    ],
    "a data: address that holds a page": [
        "data:text/html,<b>",
        "DATA:TEXT/HTML;base64,AAAA",
        "[x](data:text/html,hi)",
        "da\tta:text/html,x",
        "data: text/html,x",
        "data:image/svg+xml;base64,AA",
        "data&colon;text/html,x",
        "data:application/xhtml+xml,x",
    ],
}


@pytest.mark.parametrize(
    ("what", "text"), [(what, text) for what, texts in MARKUP.items() for text in texts]
)
def test_markup_that_a_page_would_run_is_refused(what: str, text: str) -> None:
    assert reason(no_markup(), text) == f"it holds {what}"


def test_every_text_of_a_message_is_looked_at() -> None:
    assert reason(
        no_markup(), [{"type": "text", "text": "hi"}, {"type": "text", "text": "<script>"}]
    )
    assert reason(no_markup(), [{"type": "image_url", "image_url": {"url": "javascript:alert(1)"}}])
    assert reason(no_markup(), "hi", author="<script>")
    assert (
        reason(
            no_markup(), [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
        )
        is None
    )


def test_looking_at_a_long_message_takes_no_longer_than_its_length() -> None:
    for text in (
        "<" * 250_000,
        "<a " * 80_000,
        "&" * 250_000,
        "&amp;" * 50_000,
        "javascript" * 25_000,
        "<a on" * 50_000,
        " on" * 80_000 + "<a",
    ):
        begun = time.process_time()
        assert reason(no_markup(), text) is None
        assert time.process_time() - begun < 5, text[:10]


def test_a_validator_of_your_own_returns_a_reason_or_raises_it() -> None:
    assert reason(lambda _: None, "x") is None
    assert reason(lambda made: f"no {made.content} here", "x") == "no x here"

    def raises(error: Exception) -> Any:
        def check(_: Message) -> None:
            raise error

        return check

    assert reason(raises(ValueError("too loud")), "x") == "too loud"
    assert reason(raises(MessageRefused("too rude")), "x") == "too rude"
    assert (
        reason(raises(KeyError("k")), "x")
        == f"{raises.__qualname__}.<locals>.check raised KeyError"
    )
    assert reason(raises(ValueError()), "x").endswith("says no")
    assert reason(lambda _: "", "x").endswith("says no")


@pytest.mark.parametrize("answer", [True, False, 0, [], {}])
def test_a_validator_that_answers_something_else_is_a_mistake_of_the_program(answer: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected None, or the reason"):
        validate([lambda _: answer], message("x"), "t", 60)


def test_a_refusal_says_which_message_and_why() -> None:
    with pytest.raises(MessageRefused) as caught:
        validate(
            [lambda _: None, max_length(2), lambda _: "never asked"], message("long"), "ann", 60
        )
    assert isinstance(caught.value, InvalidArgument)
    assert (caught.value.message_id, caught.value.thread_id, caught.value.code) == (
        "m1",
        "ann",
        "message_refused",
    )
    assert (
        str(caught.value)
        == "message 'm1' for thread 'ann' is refused: it has 4 characters, the limit is 2; nothing was queued"
    )


async def a_coroutine(_: Message) -> None:
    """No validator."""


@pytest.mark.parametrize(
    "given", ["max_length", [7], max_length(3), [a_coroutine], [str], {max_length(3)}]
)
def test_validators_are_a_list_of_plain_callables(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="validator"):
        configure({"validators": given})


def test_validators_are_kept_as_they_are_given() -> None:
    mine = max_length(3)
    assert configure({"validators": [mine]}).validators == (mine,)
    assert configure({}).validators == ()
