"""Worker processes that are killed while they ask in Telegram: real processes, kill -9."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from assistant_queue.testing import StandInProvider
from assistant_queue.testing.channels import LoseAnswer, StandInTelegram
from tests import fork_server
from tests.channels.test_telegram_buttons import STAFF, model
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import BIN, WORKER_CLASSES, wait_until

APP = "tests.channels.asking_bot"
LEASE_S = 2.0


@pytest.mark.parametrize("kind", ["concurrent", "forking"])
def test_a_killed_worker_is_succeeded_and_any_worker_removes_the_buttons(  # noqa: PLR0917 - fixtures
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    provider.model = model
    with StandInTelegram() as platform:
        staff = platform.chat(STAFF)
        platform.chat(5)
        telegram = {
            "token": platform.token,
            "api_url": platform.url,
            "stream": "off",
            "approval_chat": STAFF,
        }
        options = {
            "redis_url": one_redis.url,
            "queue_prefix": prefix,
            "openai_api_key": provider.api_key,
            "openai_base_url": provider.base_url,
            "model": "any",
            "message_delay": 0,
            "lock_duration": LEASE_S,
        }
        monkeypatch.setenv("ASKING_BOT", json.dumps({"telegram": telegram, "queue": options}))
        monkeypatch.setenv("ASSISTANT_QUEUE_APP", f"{APP}:queue")
        sys.modules.pop(APP, None)
        queue = importlib.import_module(APP).queue
        workers: list[Any] = []

        def start() -> None:
            words = ["rq", "worker", "-u", one_redis.url, prefix, "--worker-class"]
            with (tmp_path / "workers.log").open("ab") as log:
                workers.append(
                    fork_server.start(
                        [BIN / words[0], *words[1:], WORKER_CLASSES[kind]],
                        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                        stdout=log,
                    )
                )

        def kill_the_worker(_: Any) -> bool:
            workers[0].send_signal(signal.SIGKILL)
            return True

        platform.fault(LoseAnswer(accept=True), of="sendMessage", when=kill_the_worker)
        try:
            start()
            queue.add_message_to_thread("telegram:5", "refund 7")
            platform.wait_for(lambda: staff.shown, PATIENCE_S)
            assert workers[0].wait(PATIENCE_S) == -signal.SIGKILL
            start()
            # Telegram cannot be asked whether it has the first one.
            platform.wait_for(lambda: len(staff.shown) == 2, PATIENCE_S)
            (call,) = queue.list_approvals()
            left = queue._commands.namespace.keys.questions
            wait_until(lambda: not queue._store.client.exists(left), "the question is noted")
            workers[1].send_signal(signal.SIGKILL)
            workers[1].wait(PATIENCE_S)
            start()
            assert queue.deny(call.call_id, by="jo")
            platform.wait_for(lambda: not list(staff.messages.values())[-1].buttons, PATIENCE_S)
            assert list(staff.messages.values())[-1].text.endswith("🚫 Denied by jo")
            platform.wait_for(lambda: platform.chat(5).shown, PATIENCE_S)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait(PATIENCE_S)
            queue.close()
