"""Markdown as Telegram's text and entities."""

from __future__ import annotations

from assistant_queue.channels.telegram_text import render, unformatted, units

JOINER = "\u2060"


def spans(markdown: str, *, mentions: bool = False) -> dict[str, str]:
    shown = render(markdown, mentions=mentions)
    raw = shown.text.encode("utf-16-le")
    return {
        raw[2 * one["offset"] : 2 * (one["offset"] + one["length"])].decode("utf-16-le"): one[
            "type"
        ]
        for one in shown.entities
    }


def test_formatting_becomes_entities() -> None:
    assert spans("😀 a **bold** word, `code` and [a link](https://x.example)") == {
        "bold": "bold",
        "code": "code",
        "a link": "text_link",
    }


def test_a_heading_has_no_picture() -> None:
    assert render("# Hi", mentions=False).text.strip() == "Hi"


def test_names_notify_only_if_asked_for() -> None:
    assert f"@{JOINER}everyone" in render("hello @everyone", mentions=False).text
    assert "@everyone" in render("hello @everyone", mentions=True).text
    assert f"@{JOINER}everyone" in unformatted("hello @everyone", mentions=False).text


def test_entities_after_a_muted_name_are_moved() -> None:
    found = spans("😀 @some_one is **bold @other_one** and `@decorated`")
    assert found == {f"bold @{JOINER}other_one": "bold", "@decorated": "code"}


def test_addresses_and_code_are_left_alone() -> None:
    shown = render("write to ann@example.com\n\n```py\n@property\n```", mentions=False)
    assert JOINER not in shown.text


def test_a_link_to_a_person_is_no_mention() -> None:
    assert spans("[Ann](tg://user?id=7)") == {}


def test_a_text_without_anything_to_show_is_shown_as_it_is() -> None:
    assert render("<!-- x -->", mentions=False).text == "<!-- x -->"


def test_units_count_surrogates() -> None:
    assert units("a😀") == 3
