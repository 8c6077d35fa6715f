"""The app that worker processes load: a queue with the options that the benchmark wrote into the environment."""

from __future__ import annotations

import json
import os

from assistant_queue import AssistantMessageQueue
from tests.benchmarks import VARIABLE

queue = AssistantMessageQueue(**json.loads(os.environ[VARIABLE]))
