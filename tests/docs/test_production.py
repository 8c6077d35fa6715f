"""What docs/production.md gives to administrators: manifests that can be read, and Redis users who can do what they need and no more."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.config import Config
from assistant_queue.store import wakeups
from assistant_queue.testing import StandInProvider
from tests.conftest import SERVERS, RedisServer
from tests.docs.generated import ROOT

DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")


def check_command(words: list[str]) -> dict[str, str]:
    """The options of a command of ours, each of which must exist."""
    assert Path(words[0]).name == "assistant-queue"
    command = main.commands[words[1]]
    known = {name for parameter in command.params for name in parameter.opts}
    given = words[2:]
    assert {word for word in given if word.startswith("--")} <= known
    return dict(zip(given[::2], given[1::2], strict=True))


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))


def test_every_manifest_is_named_on_the_page() -> None:
    for path in DEPLOY.iterdir():
        assert f"../deploy/{path.name}" in PAGE


def test_pods_run_our_command_and_are_given_the_time_to_stop() -> None:
    deployments = [one for one in manifests() if one["kind"] == "Deployment"]
    assert len(deployments) == 2
    for one in deployments:
        spec = one["spec"]["template"]["spec"]
        assert one["spec"]["selector"]["matchLabels"] == one["spec"]["template"]["metadata"]["labels"]
        (container,) = spec["containers"]
        options = check_command(container["command"])
        if "--shutdown-timeout" in options:
            assert spec["terminationGracePeriodSeconds"] > float(options["--shutdown-timeout"])


def test_workers_are_counted_by_the_list_that_wake_ups_go_to() -> None:
    (scaled,) = [one for one in manifests() if one["kind"] == "ScaledObject"]
    assert scaled["spec"]["scaleTargetRef"]["name"] in {one["metadata"]["name"] for one in manifests() if one["kind"] == "Deployment"}
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["listName"] == wakeups.queue_key(Config.model_fields["queue_prefix"].default)
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert trigger["authenticationRef"]["name"] in {
        one["metadata"]["name"] for one in manifests() if one["kind"] == "TriggerAuthentication"
    }
    assert scaled["spec"]["minReplicaCount"] >= 1


def test_the_compose_file_can_be_read() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"redis", "worker"}
    assert "noeviction" in compose["services"]["redis"]["command"]


def test_the_unit_runs_our_command_and_is_given_the_time_to_stop() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "assistant-queue-worker@.service", encoding="utf-8")
    service = unit["Service"]
    options = check_command(shlex.split(service["ExecStart"]))
    assert float(service["TimeoutStopSec"]) > float(options["--shutdown-timeout"])
    assert service["RestartPreventExitStatus"] == "2"


# --- Redis users --------------------------------------------------------------------------------------------------------

RULES = {found[1]: found[0] for found in re.findall(r"^(ACL SETUSER (\S+) .*)$", PAGE, re.MULTILINE)}


@pytest.fixture(params=sorted(SERVERS))
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that only lets the page's users in."""
    server = RedisServer(SERVERS[request.param], tmp_path)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        for line in RULES.values():
            client.execute_command(*shlex.split(line))
        client.execute_command("ACL", "SETUSER", "default", "off")
    yield server
    server.stop()


def url_for(server: RedisServer, user: str) -> str:
    return f"redis://{user}:password@127.0.0.1:{server.port}/0"


def test_the_queue_lives_with_the_rights_the_page_gives_it(guarded: RedisServer, provider: StandInProvider) -> None:
    with AssistantMessageQueue(
        redis_url=url_for(guarded, "bot"), queue_prefix="assistant", model="any", message_delay=0.1,
        openai_api_key=provider.api_key, openai_base_url=provider.base_url,
    ) as queue:  # fmt: skip
        queue.start_worker()
        assert queue.ask("t", "hello", timeout=20) == "You said: hello"
        queue.pause("t")
        receipts = queue.add_messages([{"thread_id": "t", "message": "one"}, {"thread_id": "t", "message": "two"}])
        assert queue.edit_message(receipts[0].message_id, "uno")
        assert queue.cancel(receipts[1].message_id)
        assert len(queue.get_jobs_by_thread_id("t")) == 1
        queue.resume("t")
        assert queue.wait_for_reply(receipts[0].message_id, timeout=20) == "You said: uno"
        queue.create_message("t", "a note")
        queue.pause()
        queue.resume()
        assert queue.get_queue_status().completed_count == 2
        assert queue.list_failed() == []
        queue.forget_thread("t")
    checked = CliRunner().invoke(main, ["doctor", "--no-provider", "--redis-url", url_for(guarded, "bot"), "--prefix", "assistant"])
    assert "NOPERM" not in checked.output.upper()
    assert (checked.exit_code, "version" in checked.output) == (0, True), checked.output
    with redis.Redis.from_url(url_for(guarded, "bot")) as client:
        for command in (
            ["FLUSHALL"],
            ["ACL", "LIST"],
            ["KEYS", "*"],
            ["CONFIG", "GET", "*"],
            ["SET", "other:key", "1"],
            ["PUBLISH", "other", "1"],
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


@pytest.mark.parametrize("kind", ["stock", "fork"])
def test_rqs_own_worker_lives_with_the_rights_the_page_gives_it(guarded: RedisServer, provider: StandInProvider, kind: str) -> None:
    with AssistantMessageQueue(redis_url=url_for(guarded, "bot"), queue_prefix="assistant", message_delay=0) as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        variables = {
            "REDIS_URL": url_for(guarded, "bot-rq"),
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
            "ASSISTANT_QUEUE_MODEL": "any",
            "PYTHONPATH": str(ROOT),
        }
        commands = {
            "stock": ["-m", "rq.cli", "worker", "-u", variables["REDIS_URL"], "assistant", "--burst", "--with-scheduler"],
            "fork": ["-m", "assistant_queue.cli", "worker", "--fork", "--burst"],
        }
        done = subprocess.run(
            [sys.executable, *commands[kind]],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "NOPERM" not in done.stderr.upper()
        status = queue.get_message(receipt.message_id)
        assert status is not None
        assert (status.status, status.reply) == ("completed", "You said: hello"), done.stderr
