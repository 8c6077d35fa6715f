"""Replies in parts: nothing is torn, nothing is lost, nothing is too long."""

from __future__ import annotations

import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant_queue.channels.splitting import split_markdown
from assistant_queue.channels.telegram_text import render, unformatted, units

FAMILY = "👨‍👩‍👧‍👦"


def split(text: str, limit: int) -> list[str]:
    parts = split_markdown(text, lambda part: units(part) <= limit)
    assert all(units(part) <= limit for part in parts)
    assert all(part.strip() for part in parts)
    return parts


def test_a_short_text_is_one_part_as_it_is() -> None:
    assert split("**Hi** there\n\n- one", 100) == ["**Hi** there\n\n- one"]


def test_a_blank_text_has_no_parts() -> None:
    assert split(" \n\n ", 10) == []


def test_paragraphs_stay_whole() -> None:
    assert split("one two\n\nthree four\n\nfive", 20) == ["one two\n\nthree four", "five"]


def test_a_fence_is_closed_and_opened_again_with_its_language() -> None:
    code = "\n".join(f"line {number}" for number in range(10))
    parts = split(f"```python\n{code}\n```", 50)
    assert len(parts) > 1
    for part in parts:
        assert part.startswith("```python\n")
        assert part.endswith("\n```")
    inner = "\n".join(part.removeprefix("```python\n").removesuffix("\n```") for part in parts)
    assert inner == code


def test_a_fence_that_holds_fences_keeps_its_own_mark() -> None:
    parts = split("````md\n" + "```\nx\n```\n" * 6 + "````", 40)
    assert all(part.startswith("````md\n") and part.endswith("\n````") for part in parts)


def test_a_list_is_divided_between_items() -> None:
    items = [f"- item {number}\n  more of {number}" for number in range(6)]
    parts = split("\n".join(items), 60)
    assert len(parts) > 1
    assert "\n".join(parts) == "\n".join(items)
    assert all(part.startswith("- item") for part in parts)


def test_code_inside_an_item_stays_code() -> None:
    code = "\n".join(f"   call({number})" for number in range(12))
    parts = split(f"1. do this:\n\n   ```py\n{code}\n   ```\n2. then that", 80)
    assert sum(part.count("```") for part in parts) % 2 == 0
    assert all(part.count("```") % 2 == 0 for part in parts)
    joined = "\n".join(parts)
    assert all(f"call({number})" in joined for number in range(12))


def test_rows_of_a_table_stand_under_its_header() -> None:
    head = "| a | b |\n|---|---|"
    rows = [f"| {number} | x |" for number in range(12)]
    parts = split("\n".join([head, *rows]), 60)
    assert len(parts) > 1
    assert all(part.startswith(head) for part in parts)
    assert [row for part in parts for row in part.splitlines()[2:]] == rows


def test_every_line_of_a_quote_is_quoted() -> None:
    parts = split("> " + "word " * 40, 50)
    assert len(parts) > 1
    assert all(line.startswith(">") for part in parts for line in part.splitlines())


def test_links_code_spans_and_bold_words_are_one_word() -> None:
    words = ["[a b c](https://example.com/x)", "`x = 1 + 2`", "**very bold words**"]
    parts = split("filler " * 5 + " ".join(words * 4), 40)
    for word in words:
        assert sum(part.count(word) for part in parts) == 4


def test_an_emoji_is_not_torn() -> None:
    parts = split(FAMILY * 30, 40)
    assert "".join(parts) == FAMILY * 30
    assert all(len(part) % len(FAMILY) == 0 for part in parts)


def test_units_are_utf_16() -> None:
    assert units("a") == 1
    assert units("😀") == 2
    assert units(FAMILY) == 11
    assert len(split("😀" * 40, 20)) == 4


def test_marks_piled_on_one_letter_are_divided_at_last() -> None:
    parts = split("a" + "\u0301" * 100, 20)
    assert "".join(parts) == "a" + "\u0301" * 100


CHARACTERS = st.sampled_from(["a", "b", " ", "é", "😀", FAMILY, "🇩🇪", "\n"])


@settings(max_examples=60, deadline=None)
@given(st.lists(CHARACTERS, max_size=60).map("".join), st.integers(12, 40))
def test_plain_text_arrives_whole(text: str, limit: int) -> None:
    parts = split(text, limit)
    squeezed = "".join("".join(parts).split())
    assert squeezed == "".join(text.split())
    clusters = {cluster for part in parts for cluster in regex.findall(r"\X", part)}
    assert {one for one in clusters if one.strip()} <= set(regex.findall(r"\X", text))


PIECES = st.sampled_from(
    [
        "word ",
        "\n",
        "\n\n",
        "```\n",
        "~~~py\n",
        "- ",
        "1. ",
        "  ",
        "> ",
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
        "[x](http://y.z)",
        "**b**",
        "`",
        "*",
        "# ",
        FAMILY,
        "<b>",
        "\\",
        "&amp;",
    ]
)


@settings(max_examples=120, deadline=None)
@given(st.lists(PIECES, max_size=40), st.integers(30, 90))
def test_any_markdown_is_within_the_limit_with_and_without_formatting(
    pieces: list[str], limit: int
) -> None:
    def longest(text: str) -> int:
        return max(
            units(render(text, mentions=False).text), units(unformatted(text, mentions=False).text)
        )

    text = "".join(pieces)
    parts = split_markdown(text, lambda part: longest(part) <= limit)
    assert all(longest(part) <= limit for part in parts)
    assert "".join(parts).count("word") >= text.count("word")
