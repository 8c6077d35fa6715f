"""Send signed webhooks about background responses, also as a provider should not.

Source: the provider's guide: Standard Webhooks, sent again until an answer is 2xx; the receiver
deduplicates by `webhook-id`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from assistant_queue.channels.http_client import HttpAnswer, HttpClient
from assistant_queue.channels.standard_webhooks import Signer
from assistant_queue.testing.provider.ids import new_id

T = TypeVar("T")

Misbehaviour = Literal["twice", "never", "wrong_signature", "unknown_run"]
"""Faults of one response's webhooks: sent twice with one id, not at all, with a signature of
another secret, or about a response that there is not."""

_TIMEOUT_S = 10.0
_TRIES = 6
_FIRST_PAUSE_S = 0.05
"""Chosen: the provider repeats for 72 hours; a test does not."""
_OK = range(200, 300)


@dataclass(frozen=True, slots=True)
class ProviderWebhook:
    """A webhook to be sent.

    Attributes:
        id: `wh_...`, of its header `webhook-id`; the same when it is sent again.
        run_id: The response it is about.
        type: Such as `response.completed`.
        body: As it is signed.
    """

    id: str
    run_id: str
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class WebhookSent:
    """One request of an endpoint: `status` None if there was no answer."""

    webhook: ProviderWebhook
    status: int | None


def new_secret() -> str:
    """A secret in the provider's form."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


class WebhookEndpoint:
    """An address that is sent `response.completed`, `.failed`, `.cancelled` and `.incomplete`.

    1. `misbehave` plans what goes wrong with the next ones.
    2. `hold` keeps them back; `release` sends them late, also in reverse order.
    3. `sent` has every request with its answer; `wait_sent` blocks until there are so many.
    4. `signed` builds a request without sending it.
    """

    def __init__(
        self, url: str, secret: str | None, call: Callable[[Callable[[], None]], None]
    ) -> None:
        """Describe an endpoint; `StandInProvider.send_webhooks` makes one."""
        self.url = url
        self.secret = secret or new_secret()
        self._signer = Signer(self.secret)
        self._forger = Signer(new_secret())
        self._call = call
        self._changed = threading.Condition()
        self._planned: deque[Misbehaviour] = deque()
        self._held: list[tuple[ProviderWebhook, Signer]] | None = None
        self._sent: list[WebhookSent] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def sent(self) -> tuple[WebhookSent, ...]:
        """Every request that was answered or failed, in that order."""
        with self._changed:
            return tuple(self._sent)

    def misbehave(self, way: Misbehaviour, times: int = 1) -> None:
        """Let the next `times` responses' webhooks go wrong."""
        with self._changed:
            self._planned.extend([way] * times)

    def hold(self) -> None:
        """Keep webhooks back until `release`."""
        with self._changed:
            self._held = [] if self._held is None else self._held

    def release(self, *, reverse: bool = False) -> None:
        """Send what was kept back, one after the other, and later ones at once."""
        with self._changed:
            held = list(self._held or ())
            self._held = None
        if reverse:
            held.reverse()
        self._call(lambda: self._spawn(held))

    def wait_sent(self, count: int, timeout: float = 30.0) -> tuple[WebhookSent, ...]:
        """Block until `count` requests were made; all of them.

        Raises:
            TimeoutError: There were fewer in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sent) >= count, timeout):
                raise TimeoutError(f"{len(self._sent)} of {count} webhooks within {timeout} s")
            return tuple(self._sent)

    def signed(
        self, run_id: str, event: str = "response.completed", *, webhook_id: str | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a webhook, as a receiver gets them."""
        webhook = _webhook(run_id, event, webhook_id)
        return webhook.body, self._headers(webhook, self._signer)

    def ended(self, run_id: str, status: str) -> None:
        """Send the webhook of a response that has ended; on the server's loop."""
        webhook = _webhook(run_id, f"response.{status}")
        with self._changed:
            way = self._planned.popleft() if self._planned else None
            if way == "never":
                return
            if way == "unknown_run":
                webhook = _webhook(new_id("resp"), webhook.type)
            signer = self._forger if way == "wrong_signature" else self._signer
            sent = [(webhook, signer)] * (2 if way == "twice" else 1)
            if self._held is not None:
                self._held.extend(sent)
                return
        self._spawn(sent)

    def _spawn(self, sent: list[tuple[ProviderWebhook, Signer]]) -> None:
        task = asyncio.get_running_loop().create_task(self._send(sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, sent: list[tuple[ProviderWebhook, Signer]]) -> None:
        http = HttpClient(_TIMEOUT_S)  # closed with its connections, whenever the provider stops
        try:
            for webhook, signer in sent:
                await self._post(http, webhook, signer)
        finally:
            await http.close()

    async def _post(self, http: HttpClient, webhook: ProviderWebhook, signer: Signer) -> None:
        pause = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            answer = await http.post(self.url, webhook.body, self._headers(webhook, signer))
            status = answer.status if isinstance(answer, HttpAnswer) else None
            with self._changed:
                self._sent.append(WebhookSent(webhook, status))
                self._changed.notify_all()
            if status in _OK:
                return
            await asyncio.sleep(pause)
            pause *= 2

    def _headers(self, webhook: ProviderWebhook, signer: Signer) -> dict[str, str]:
        return {
            **signer.sign(webhook.id, webhook.body),
            "content-type": "application/json",
            "user-agent": "OpenAI/1.0 (+https://platform.openai.com/docs/webhooks)",
        }


def _webhook(run_id: str, event: str, webhook_id: str | None = None) -> ProviderWebhook:
    body = {
        "id": new_id("evt"),
        "object": "event",
        "created_at": int(time.time()),
        "type": event,
        "data": {"id": run_id},
    }
    return ProviderWebhook(webhook_id or new_id("wh"), run_id, event, json.dumps(body).encode())
