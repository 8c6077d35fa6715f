"""The outgoing webhook of `assistant-queue serve`: each reply as a signed POST to one address."""

from __future__ import annotations

import os

from assistant_queue.channels import Webhook
from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.config import Config
from assistant_queue.errors import InvalidArgument

SECRET_VARIABLE = "ASSISTANT_QUEUE_WEBHOOK_SECRET"  # noqa: S105 - its name
"""Environment variable with the secret: an argument would be seen in the list of processes."""


class OutgoingWebhook(Webhook):
    """A webhook for all threads that are on no channel: a thread's address is its id."""

    def thread_id(self, address: str) -> str:
        """Return the thread id of an address."""
        return address

    def address_of(self, thread_id: str) -> str:
        """Return the address of a thread."""
        return thread_id


def with_webhook(config: Config, url: str) -> tuple[Config, OutgoingWebhook]:
    """Return the options with the webhook as `on_reply`, and the webhook, to be closed.

    Raises:
        Misuse: The address or the secret cannot be used, or the app has an `on_reply`.
    """
    if config.on_reply is not None:
        raise Misuse("--webhook would replace the app's on_reply: leave one of them out")
    secret = os.environ.get(SECRET_VARIABLE)
    if not secret:
        raise Misuse(f"--webhook needs a secret: set {SECRET_VARIABLE} to whsec_ and a key")
    try:
        webhook = OutgoingWebhook(url, secret)
    except InvalidArgument as error:
        raise Misuse(f"--webhook: {error}") from None
    return config.model_copy(update={"on_reply": webhook.on_reply}), webhook
