"""A worker and a producer of version 0.1 beside those of this version, on one queue.

Needs the repository's history: the package of commit 780ee65 is taken from it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until

COMMIT = "780ee65"
ROOT = Path(__file__).parent.parent.parent
MESSAGES = 30
BOT = """
import json, os
from assistant_queue import AssistantMessageQueue

def on_reply(result):
    row = [os.environ["WHICH"], result.thread_id, list(result.message_ids), result.reply]
    file = os.open(os.environ["DELIVERED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, json.dumps(row).encode() + b"\\n")
    os.close(file)

queue = AssistantMessageQueue(on_reply=on_reply, **json.loads(os.environ["OPTIONS"]))
"""
ADD = """
import sys
from bot import queue
for number in range(int(sys.argv[2])):
    thread = f"t{number % 10}"
    queue.add_message_to_thread(thread, f"{number}", message_id=f"{sys.argv[1]}-{number}")
"""

Run = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0.05) as standing:
        yield standing


@pytest.fixture
def delivered(tmp_path: Path) -> Path:
    return tmp_path / "delivered"


@pytest.fixture
def run(
    tmp_path: Path,
    delivered: Path,
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
) -> Iterator[Run]:
    """Start Python with one version of the package and the bot."""
    archive = subprocess.run(
        ["git", "archive", COMMIT, "assistant_queue"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"commit {COMMIT} is not in this copy of the repository")
    old = tmp_path / "old"
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as packed:
        packed.extractall(old, filter="data")
    (tmp_path / "bot.py").write_text(BOT)
    packages = {"old": old, "new": ROOT}
    options = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "message_delay": 0.1,
        "lock_duration": 2.0,
        "concurrency": 4,
    }
    processes: list[subprocess.Popen[bytes]] = []

    def start(which: str, *words: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{packages[which]}{os.pathsep}{tmp_path}",
            "OPTIONS": json.dumps(options),
            "DELIVERED": str(delivered),
            "WHICH": which,
            "PYTHONUNBUFFERED": "1",
        }
        with (tmp_path / f"{which}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words], env=environment, cwd=tmp_path, stdout=log, stderr=log
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
    for log in tmp_path.glob("*.log"):
        sys.stdout.write(f"--- {log.name}\n{log.read_text()}\n")  # shown if the test fails


def worker(run: Run, which: str, directory: Path) -> subprocess.Popen[bytes]:
    process = run(which, "-m", "assistant_queue.cli", "worker", "--app", "bot:queue")
    log = directory / f"{which}.log"
    wait_until(lambda: "ready" in log.read_text(), f"the {which} worker is ready")
    return process


def rows(delivered: Path) -> list[tuple[str, str, list[str], str]]:
    lines = delivered.read_text().splitlines() if delivered.exists() else []
    return [tuple(json.loads(line)) for line in lines]


@pytest.mark.parametrize("dies", [False, True], ids=["beside", "the old one is killed"])
def test_replies_are_delivered_by_workers_of_both_versions(
    run: Run, delivered: Path, one_redis: RedisServer, prefix: str, dies: bool
) -> None:
    old = worker(run, "old", delivered.parent)
    worker(run, "new", delivered.parent)
    for process in [run(which, "-c", ADD, which, str(MESSAGES)) for which in ("old", "new")]:
        assert process.wait(PATIENCE_S) == 0
    if dies:
        wait_until(lambda: any(row[0] == "old" for row in rows(delivered)), "the old one works")
        old.kill()
    ids = {f"{which}-{number}" for which in ("old", "new") for number in range(MESSAGES)}
    wait_until(
        lambda: {one for row in rows(delivered) for one in row[2]} == ids,
        "each message is in a reply that was delivered",
    )
    with AssistantMessageQueue(redis_url=one_redis.url, queue_prefix=prefix) as queue:
        wait_until(
            lambda: (
                (status := queue.get_queue_status()).completed_count == len(ids)
                and not status.delivering_count
            ),
            "all are completed",
        )
        assert queue.list_failed() == []
    times = Counter(one for row in rows(delivered) for one in row[2])
    if not dies:  # else the reply that it was delivering is delivered again
        assert set(times.values()) == {1}
        assert {row[0] for row in rows(delivered)} == {"old", "new"}


def test_quiet_messages_and_notices_are_kept_and_shown_beside_version_0_1(
    run: Run, delivered: Path, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    """Any worker that takes the message that wants a reply answers the quiet one before it."""
    for which in ("old", "new"):
        worker(run, which, delivered.parent)
    threads = [f"t{number}" for number in range(20)]
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.1, model="stand-in-model"
    ) as queue:
        for thread in threads:
            queue.add_message_to_thread(thread, f"{thread} quiet", wants_reply=False)
            queue.say(thread, f"{thread} note", kind="notice")
            queue.add_message_to_thread(thread, f"{thread} asks")
        wait_until(lambda: len(rows(delivered)) >= 2 * len(threads), "all is delivered")
        wait_until(
            lambda: (
                (status := queue.get_queue_status()).completed_count == 2 * len(threads)
                and not status.delivering_count
            ),
            "all are completed",
        )
        assert queue.list_failed() == []
    asked = sorted(run.user_texts for run in provider.runs)
    assert asked == sorted((f"{thread} quiet", f"{thread} asks") for thread in threads)
    shown = Counter((thread, reply) for _, thread, _, reply in rows(delivered))
    assert set(shown.values()) == {1}
    assert {thread for thread, reply in shown if reply == f"{thread} note"} == set(threads)
    assert {row[0] for row in rows(delivered)} == {"old", "new"}


def test_a_thread_that_a_person_answers_is_left_alone_by_version_0_1(
    run: Run, delivered: Path, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    worker(run, "old", delivered.parent)
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.1, model="stand-in-model"
    ) as queue:
        queue.take_over("taken", "Jo")
        asked = queue.add_message_to_thread("taken", "for Jo", message_delay=0).message_id
        for number in range(3):
            other = queue.add_message_to_thread("model", f"for the model {number}").message_id
            queue.wait_for_reply(other, PATIENCE_S)
        status = queue.get_message(asked)
        assert status is not None
        assert status.status == "queued"
        assert all("for Jo" not in one.user_texts for one in provider.runs)
        queue.hand_back("taken")
        queue.wait_for_reply(asked, PATIENCE_S)
    assert {row[0] for row in rows(delivered)} == {"old"}
