"""Telegram's Bot API: one request a call, and the meaning of its refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.channels.base import PartNotSent, PartUnknown
from assistant_queue.channels.http_client import HttpClient, seconds
from assistant_queue.user_code.scrubbing import scrubbed

_OK = 200
_BAD_REQUEST = 400
_FORBIDDEN = 403
_TOO_MANY = 429
_SERVER_ERROR = 500
_WRONG_BOT = (401, 404)

_MARKUP = ("can't parse", "entit", "unsupported start tag", "unsupported url")
"""Words of a refusal that is about formatting. Source: the server's own texts."""

_UNCHANGED = "message is not modified"


@dataclass(frozen=True, slots=True)
class MethodDone:
    """A method that Telegram has carried out.

    Attributes:
        result: As Telegram describes it.
    """

    result: Any


@dataclass(frozen=True, slots=True)
class BotRefusal:
    """A method that Telegram has refused.

    Attributes:
        status: The HTTP status, which is also its `error_code`.
        description: Its words, without secrets.
        parameters: `retry_after`, `migrate_to_chat_id`.
    """

    status: int
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_about_markup(self) -> bool:
        """Whether the same text without formatting may be accepted."""
        words = self.description.lower()
        return self.status == _BAD_REQUEST and any(word in words for word in _MARKUP)

    @property
    def is_unchanged(self) -> bool:
        """Whether an edit changes nothing."""
        return self.status == _BAD_REQUEST and _UNCHANGED in self.description.lower()

    @property
    def moved_to(self) -> str | None:
        """New id of a group that has become a supergroup."""
        found = self.parameters.get("migrate_to_chat_id")
        return str(found) if isinstance(found, int) else None

    def outcome(self) -> PartNotSent:
        """Return what it means for a part."""
        reason = f"Telegram answered {self.status}: {self.description}"
        if self.status == _TOO_MANY:
            return PartNotSent(reason, retry_after=seconds(self.parameters.get("retry_after")))
        # A wrong token is the operator's to replace: the chat is not at fault.
        return PartNotSent(reason, final=self.status in (_BAD_REQUEST, _FORBIDDEN))


class TelegramApi:
    """Calls methods of the Bot API.

    No library of Telegram bots is used: their requests are repeated, or their errors hide whether
    one was sent.
    """

    def __init__(self, token: str, url: str, timeout_s: float) -> None:
        """Open no connection yet."""
        self._token = token
        self._url = url.rstrip("/")
        self._http = HttpClient(timeout_s)

    async def call(
        self, method: str, arguments: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> MethodDone | BotRefusal | PartNotSent | PartUnknown:
        """Call a method once."""
        given = {name: value for name, value in arguments.items() if value is not None}
        answer = await self._http.post(
            f"{self._url}/bot{self._token}/{method}",
            json.dumps(given, ensure_ascii=False).encode(),
            {"content-type": "application/json"},
            timeout_s,
        )
        if isinstance(answer, PartNotSent | PartUnknown):
            return answer
        try:
            body = json.loads(answer.body)
        except ValueError:
            body = None
        body = body if isinstance(body, dict) else {}
        if answer.status == _OK and body.get("ok") is True:
            return MethodDone(body.get("result"))
        if answer.status >= _SERVER_ERROR or not body:
            # A proxy's answer says nothing about the server behind it.
            return PartUnknown(f"Telegram answered {answer.status}")
        parameters = body.get("parameters")
        return BotRefusal(
            answer.status,
            scrubbed(str(body.get("description", "")), self._token),
            parameters if isinstance(parameters, dict) else {},
        )

    async def read_file(self, path: str, most_bytes: int) -> bytes | None:
        """Read a file by its `file_path`; None if it cannot be read or is too long."""
        answer = await self._http.get(f"{self._url}/file/bot{self._token}/{path}", most_bytes)
        if answer is None or answer.status != _OK or len(answer.body) > most_bytes:
            return None
        return answer.body

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._http.close()


def is_wrong_bot(refusal: BotRefusal) -> bool:
    """Return whether Telegram does not know the bot's token."""
    return refusal.status in _WRONG_BOT
