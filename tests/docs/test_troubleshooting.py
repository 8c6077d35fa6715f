"""The commands, options, errors and links that docs/troubleshooting.md names exist."""

from __future__ import annotations

import re

import click
import pytest

import assistant_queue
from assistant_queue.cli import main
from assistant_queue.config import Config
from tests.docs.generated import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    {" ".join(found.split()) for found in re.findall(r"`(assistant-queue [^`]+)`", PAGE)}
)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_takes_these_words(line: str) -> None:
    words = line.split()[1:]
    name, *rest = words
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command = command.get_command(context, rest.pop(0))
        assert command is not None
    command.make_context(name, rest)  # raises for what it does not take


def test_options_and_errors_are_those_of_the_package() -> None:
    for name in re.findall(r"`([A-Z]\w+)`", PAGE):
        if name not in {"Host", "OOM"} and not name.isupper():
            assert hasattr(assistant_queue, name), name
    for name in re.findall(r"`([a-z_]+)=", PAGE):
        assert name in Config.model_fields, name


def test_each_symptom_is_listed_and_each_link_leads_to_one() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", " ".join(PAGE.split()))) == anchors
