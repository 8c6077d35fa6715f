"""The app of workers that deliver to webhooks: options and receivers as the benchmark wrote them."""

from __future__ import annotations

import json
import os

from assistant_queue import AssistantMessageQueue
from assistant_queue.channels import Webhook
from tests.benchmarks import VARIABLE

given = json.loads(os.environ[VARIABLE])
channels = [Webhook(url, secret, name=name) for name, url, secret in given.pop("webhooks")]
queue = AssistantMessageQueue(**given, channels=channels)
