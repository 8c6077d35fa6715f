"""Reasoning between tags: what an answer begins with is left out, what it mentions stays, and pieces come to the same as the whole."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.reasoning_tags import ReasoningTags, TagFilter


def streamed(found: TagFilter, *pieces: str) -> str:
    return "".join(found.feed(piece) for piece in pieces) + found.close()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("hello", "hello"),
        ("<think>hm</think>hello", "hello"),
        ("<think>\nhm\n</think>\n\nhello\n", "hello\n"),
        (" \n<think>hm</think> hello", "hello"),
        ("<THINK>hm</Think>hello", "hello"),
        ("<think></think>hello", "hello"),
        ("<think>a</think>\n<think>b</think>hello", "hello"),
        ("<thinking>hm</thinking>hello", "hello"),
        ("<thought>hm</thought>hello", "hello"),
        ("<reasoning>hm</reasoning>hello", "hello"),
        ("<seed:think>hm</seed:think>hello", "hello"),
        ("[THINK]hm[/THINK]hello", "hello"),
        ("◁think▷hm◁/think▷hello", "hello"),
        ("<think>İ</think>hello", "hello"),
        # not closed: all of it is reasoning; not opened: all before it, if it is no mention
        ("<think>hm", ""),
        ("<think>hm</thinking>hello", ""),
        ("hm\n</think>\n\nhello", "hello"),
        ("hm</think>hello", "hello"),
        ("hm</think><think>more</think>hello", "hello"),
        ("</think>\n\nhello", "hello"),
        # what is no block stays
        ("<thin", "<thin"),
        ("<", "<"),
        ("<thinker>", "<thinker>"),
        ("  hello", "  hello"),
        ("hello <think>hm</think>", "hello <think>hm</think>"),
        (
            "```\n<think>hm</think>\n```\nis how it looks",
            "```\n<think>hm</think>\n```\nis how it looks",
        ),
        ("`</think>` closes it", "`</think>` closes it"),
        ("Write\n```html\n</think>\n```\nthere", "Write\n```html\n</think>\n```\nthere"),
        ("<think>hm</think>It ends with </think>.", "It ends with </think>."),
        (
            "It begins with <think> and ends with </think>.",
            "It begins with <think> and ends with </think>.",
        ),
        ("", ""),
        (" \n", " \n"),
    ],
)
def test_an_answer_is_what_comes_after_the_reasoning_it_begins_with(text: str, answer: str) -> None:
    assert ReasoningTags().without(text) == answer


words = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<thinking>",
        "</thinking>",
        "<th",
        "ink>",
        "</",
        "think",
        ">",
        "`",
        "```",
        "\n",
        " ",
        "hm",
        "İ",
        "<",
        "[THINK]",
    ]
)


@given(st.lists(words, max_size=12), st.booleans())
def test_pieces_come_to_the_same_as_the_whole(pieces: list[str], starts_inside: bool) -> None:
    text = "".join(pieces)
    tags = ReasoningTags()
    answer = tags.without(text)
    if (
        tags.starts_inside and not starts_inside
    ):  # nothing announced this block: what passed through is corrected by the whole
        return
    assert streamed(TagFilter(starts_inside=starts_inside), *pieces) == answer
    assert streamed(TagFilter(starts_inside=starts_inside), *text) == answer


def test_text_is_given_as_soon_as_it_is_known_to_be_text() -> None:
    found = TagFilter()
    assert [found.feed(piece) for piece in ("<thi", "s>", " is", " it")] == [
        "",
        "<this>",
        " is",
        " it",
    ]
    found = TagFilter()
    assert [found.feed(piece) for piece in ("<think>a", "</thi", "nk>", "\n\n", "he", "llo")] == [
        "",
        "",
        "",
        "",
        "he",
        "llo",
    ]


def test_a_template_that_opens_the_block_is_remembered_until_it_does_not() -> None:
    tags = ReasoningTags()
    assert streamed(tags.filter(), "hm", "</think>", "hello") == "hm</think>hello"
    assert tags.without("hm</think>hello") == "hello"
    held = tags.filter()
    assert [held.feed(piece) for piece in ("let me ", "see</th", "ink>\n\n", "he", "llo")] == [
        "",
        "",
        "",
        "he",
        "llo",
    ]
    assert streamed(tags.filter(), "no reasoning this time") == "no reasoning this time"
    tags.without("no reasoning this time")
    assert tags.filter().feed("at once") == "at once"


def test_reasoning_in_a_separate_field_leaves_none_in_the_text() -> None:
    tags = ReasoningTags()
    tags.without("hm</think>hello")
    assert tags.without("The tag is </think>.", is_separate=True) == "The tag is </think>."
    tags.without("hm</think>hello")
    found = tags.filter()
    found.mark_separate()
    assert [found.feed(piece) for piece in ("The tag", " is </think>.")] == [
        "The tag",
        " is </think>.",
    ]
    assert tags.without("</think>hello", is_separate=True) == "hello"


def test_long_reasoning_is_looked_at_once() -> None:
    """A quadratic filter would take a minute for each."""
    for begin, starts_inside in (("<think>", False), ("", True)):
        found = TagFilter(starts_inside=starts_inside)
        started = time.process_time()
        assert streamed(found, begin, *["hm, well "] * 100_000, "</think>", "hello") == "hello"
        assert time.process_time() - started < 10
