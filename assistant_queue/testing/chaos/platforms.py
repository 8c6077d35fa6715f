"""The chat platforms of a run, what goes wrong with them, and what they were shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assistant_queue.channels import Telegram, Webhook
from assistant_queue.testing.channels import (
    AnswerWith,
    LoseAnswer,
    PlatformFault,
    PlatformServer,
    StandInTelegram,
    WebhookReceiver,
)
from assistant_queue.testing.channels.platform_server import TOO_MANY_REQUESTS
from assistant_queue.testing.chaos.plan import ASKED, BLIND, PlannedFault

_FLAP_S = 0.3
"""Seconds between two turns of a platform that flaps. Chosen: several in one fault."""
_MANY = 1000
"""Chosen: more requests than a platform gets in one fault."""
_REPLIES = {BLIND: "/sendMessage", ASKED: ""}
"""Part of the path of requests with a reply."""


def channels_of(settings: str) -> list[Any]:
    """Return the workers' channels, from what `Platforms.environment` gives them."""
    given = json.loads(settings)
    return [
        # A preview that a killed worker has left on the screen is no reply.
        Telegram(given["token"], api_url=given["telegram"], stream="off"),
        Webhook(given["webhook"], given["secret"]),
    ]


class Platforms:
    """A Telegram that cannot be asked, and a receiver of webhooks that recognises repeated ones."""

    def __init__(self, threads: int) -> None:
        """Describe both, with a chat for each thread; nothing runs before `start`."""
        self._telegram = StandInTelegram()
        for number in range(1, threads + 1):
            self._telegram.chat(number)
        self._receiver = WebhookReceiver()
        self._of: Mapping[str, PlatformServer] = {BLIND: self._telegram, ASKED: self._receiver}
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._faults: Mapping[str, Callable[[str, float], None]] = {
            "away": self._away,
            "flaps": self._flap,
            "429": self._refuse,
            "502": self._fail,
            "takes it, drops": self._take_and_drop,
            "drops": self._drop,
        }

    def start(self) -> None:
        """Start both."""
        for platform in self._of.values():
            platform.start()

    def stop(self) -> None:
        """Stop both."""
        for platform in self._of.values():
            platform.stop()

    def environment(self) -> str:
        """Return what `channels_of` needs."""
        return json.dumps(
            {
                "token": self._telegram.token,
                "telegram": self._telegram.url,
                "webhook": self._receiver.url,
                "secret": self._receiver.secret,
            }
        )

    def strike(self, event: PlannedFault) -> bool:
        """Let one platform misbehave; return False if an earlier fault has not ended."""
        name, what = event.text.split(": ", 1)
        if self._later:
            return False
        self._faults[what](name, event.seconds)
        return True

    def look_after(self) -> None:
        """Carry out what is due of the faults that last."""
        while self._later and self._later[0][0] <= time.monotonic():
            _, act = self._later.pop(0)
            act()

    def heal(self) -> None:
        """End the faults that last; those of a number of requests are left."""
        self._later.clear()
        for platform in self._of.values():
            platform.clear_faults(TOO_MANY_REQUESTS)
            platform.come_back()

    def shown(self) -> dict[str, Sequence[str]]:
        """Return the replies that each thread was shown, in order."""
        found: dict[str, list[str]] = {
            f"{BLIND}:{chat.id}": chat.shown for chat in self._telegram.methods.chats.values()
        }
        for event in self._receiver.events:
            found.setdefault(event["data"]["thread_id"], []).append(event["data"]["reply"] or "")
        return dict(found)

    # --- faults -----------------------------------------------------------------------------------

    def _away(self, name: str, seconds: float) -> None:
        self._of[name].go_away()
        self._at(time.monotonic() + seconds, self._of[name].come_back)

    def _flap(self, name: str, seconds: float) -> None:
        platform = self._of[name]
        platform.go_away()
        start = time.monotonic()
        turns = max(1, round(seconds / _FLAP_S / 2)) * 2 - 1
        for turn in range(1, turns + 1):
            self._at(start + turn * _FLAP_S, platform.come_back if turn % 2 else platform.go_away)

    def _refuse(self, name: str, seconds: float) -> None:
        self._spoil(name, TOO_MANY_REQUESTS, _MANY)
        platform = self._of[name]
        self._at(time.monotonic() + seconds, lambda: platform.clear_faults(TOO_MANY_REQUESTS))

    def _fail(self, name: str, seconds: float) -> None:
        self._spoil(name, AnswerWith(502, b"bad gateway"), _times(seconds))

    def _take_and_drop(self, name: str, seconds: float) -> None:
        self._spoil(name, LoseAnswer(), _times(seconds))

    def _drop(self, name: str, seconds: float) -> None:
        self._spoil(name, LoseAnswer(accept=False), _times(seconds))

    def _spoil(self, name: str, fault: PlatformFault, times: int) -> None:
        self._of[name].fault(fault, of=_REPLIES[name], times=times)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._later.append((when, act))


def _times(seconds: float) -> int:
    """Requests that fail: as many as the fault would be seconds long."""
    return max(1, round(seconds))
