"""A real Prometheus scrapes the service with a token, and answers a query."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import Action, Caller, NotAuthenticated
from tests.conftest import PATIENCE_S, free_port
from tests.docs.generated import ROOT
from tests.integration.conftest import wait_until
from tests.web.conftest import running

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed: it is in Debian's package of that name",
)


def authorize(request: Any, action: Action, thread_id: str | None) -> Caller:
    if action is not Action.READ_METRICS or request.headers.get("authorization") != "Bearer t0ken":
        raise NotAuthenticated("no token")
    return Caller(id="prometheus")


def test_it_scrapes_the_service_and_loads_the_rules(
    queue: AssistantMessageQueue, tmp_path: Path
) -> None:
    queue.start_worker()
    receipt = [queue.add_message_to_thread("t", text) for text in ("Hello!", "Please!")][-1]
    queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    with running(queue, authorize=authorize) as site:
        config = yaml.safe_load((ROOT / "deploy" / "prometheus.yaml").read_text(encoding="utf-8"))
        (job,) = [one for one in config["scrape_configs"] if "authorization" in one]
        token = tmp_path / "token"
        token.write_text("t0ken", encoding="utf-8")
        job["authorization"]["credentials_file"] = str(token)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{site.port}"]}]
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"] = [job]
        config["rule_files"] = [str(ROOT / "deploy" / "alerts.yaml")]
        port = free_port()
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                answered = 'assistant_queue_messages_total{outcome="answered"}'
                wait_until(lambda: value_of(port, answered) == "2", "it was scraped", PATIENCE_S)
                runs = "sum(assistant_queue_runs_total)"
                assert value_of(port, runs) == "1"
                p50 = "histogram_quantile(0.5, assistant_queue_end_to_end_seconds_bucket)"
                assert float(value_of(port, p50)) > 0
                groups = ask(port, "rules", "")["groups"]
                assert {rule["health"] for group in groups for rule in group["rules"]} <= {
                    "ok",
                    "unknown",
                }
            finally:
                process.terminate()


def value_of(port: int, query: str) -> str:
    """Return the one value of a query; "" without one."""
    try:
        found = ask(port, "query", query)["result"]
    except httpx.HTTPError:  # it is starting
        return ""
    return str(found[0]["value"][1]) if found else ""


def ask(port: int, path: str, query: str) -> Any:
    answer = httpx.get(
        f"http://127.0.0.1:{port}/api/v1/{path}", params={"query": query}, timeout=PATIENCE_S
    )
    answer.raise_for_status()
    return answer.json()["data"]
