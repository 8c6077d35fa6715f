"""Manifests of docs/production.md can be parsed, and their commands exist."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path
from typing import Any

import click
import yaml

from assistant_queue.cli import main
from assistant_queue.config import Config
from assistant_queue.store import wakeups
from tests.docs.generated import ROOT

DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")


def check_command(words: list[str]) -> dict[str, str]:
    """Return the options of a command, each of which must exist."""
    assert Path(words[0]).name == "assistant-queue"
    command = main.get_command(click.Context(main), words[1])
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    given = words[2:]
    assert {word for word in given if word.startswith("--")} <= known
    pairs = zip(given, [*given[1:], "--"], strict=True)
    return {name: "" if value.startswith("--") else value for name, value in pairs if "--" in name}


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))


def test_every_manifest_is_named_on_the_page() -> None:
    for path in DEPLOY.iterdir():
        assert f"../deploy/{path.name}" in PAGE
    named = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for path in (DEPLOY / "stack").iterdir():
        assert f"deploy/stack/{path.name}" in named


def test_pods_run_our_command_and_are_given_the_time_to_stop() -> None:
    deployments = [one for one in manifests() if one["kind"] == "Deployment"]
    assert len(deployments) == 3
    for one in deployments:
        spec = one["spec"]["template"]["spec"]
        assert (
            one["spec"]["selector"]["matchLabels"] == one["spec"]["template"]["metadata"]["labels"]
        )
        (container,) = spec["containers"]
        options = check_command(container["command"])
        if "--shutdown-timeout" in options:
            assert spec["terminationGracePeriodSeconds"] > float(options["--shutdown-timeout"])


def test_workers_are_counted_by_the_list_that_wake_ups_go_to() -> None:
    (scaled,) = [one for one in manifests() if one["kind"] == "ScaledObject"]
    assert scaled["spec"]["scaleTargetRef"]["name"] in {
        one["metadata"]["name"] for one in manifests() if one["kind"] == "Deployment"
    }
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["listName"] == wakeups.queue_key(
        Config.model_fields["queue_prefix"].default
    )
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert trigger["authenticationRef"]["name"] in {
        one["metadata"]["name"] for one in manifests() if one["kind"] == "TriggerAuthentication"
    }
    assert scaled["spec"]["minReplicaCount"] >= 1


def test_services_of_the_compose_file_run_our_commands() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert "noeviction" in services["redis"]["command"]
    ours = {name for name, one in services.items() if "build" in one}
    assert ours == {"worker", "web", "audit-tables", "model"}
    for name in ours - {"model", "audit-tables"}:
        check_command(services[name]["command"])
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    for name, one in services.items():
        for port in one.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is reached from other machines"


def test_the_unit_runs_our_command_and_is_given_the_time_to_stop() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "assistant-queue-worker@.service", encoding="utf-8")
    service = unit["Service"]
    options = check_command(shlex.split(service["ExecStart"]))
    assert float(service["TimeoutStopSec"]) > float(options["--shutdown-timeout"])
    assert service["RestartPreventExitStatus"] == "2"
