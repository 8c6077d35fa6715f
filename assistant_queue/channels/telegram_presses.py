"""Presses of the buttons under a question, as updates of Telegram have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assistant_queue.channels.telegram_updates import address_of, name_of_sender

APPROVE = "aq+"
DENY = "aq-"
"""Beginnings of the data of the two buttons; the call follows."""
_MOST_NAME = 80
"""Characters of the name of a person. Source: Telegram's are 64 and 64; of most, these are all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonPress:
    """A button that a person has pressed.

    Attributes:
        query_id: Telegram's id of the press.
        data: Of the button.
        address: The chat of its message, as in a thread id.
        message_id: Its message.
        text: That message's text; "" if Telegram does not say.
        known_data: Of the buttons that the message has now; None if Telegram does not say, because
            the message is too old.
        user_id: The person.
        by: The person's name with that number: the name alone is the user's choice.
    """

    query_id: str
    data: str
    address: str
    message_id: int
    text: str
    known_data: frozenset[str] | None
    user_id: int
    by: str


def read_press(update: Mapping[str, Any]) -> ButtonPress | None:
    """Return the press of a button of a question; None for any other update."""
    query = update.get("callback_query")
    if not isinstance(query, Mapping):
        return None
    data, message, person = query.get("data"), query.get("message"), query.get("from")
    if (
        not isinstance(data, str)
        or not data.startswith((APPROVE, DENY))
        or not isinstance(message, Mapping)
        or not isinstance(message.get("message_id"), int)
        or not isinstance(person, Mapping)
        or not isinstance(person.get("id"), int)
    ):
        return None
    said = "".join(one for one in name_of_sender(person) or "" if one.isprintable())
    name = said.strip()[:_MOST_NAME] or "Telegram user"
    text = message.get("text")
    return ButtonPress(
        query_id=str(query.get("id")),
        data=data,
        address=address_of(message),
        message_id=message["message_id"],
        text=text if isinstance(text, str) else "",
        known_data=None if message.get("date") == 0 else frozenset(_data_in(message)),
        user_id=person["id"],
        by=f"{name} ({person['id']})",
    )


def _data_in(message: Mapping[str, Any]) -> Iterator[str]:
    markup = message.get("reply_markup")
    for row in markup.get("inline_keyboard") or () if isinstance(markup, Mapping) else ():
        for one in row:
            yield str(one.get("callback_data"))
