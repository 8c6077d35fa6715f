"""A group of commands that imports no more than the command that is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from assistant_queue.cli.exit_errors import problem_of
from assistant_queue.errors import AssistantQueueError


class LazyGroup(click.Group):
    """Import a command when it is run or listed; print errors of this package in one line."""

    def __init__(self, *args: Any, modules_by_command: Mapping[str, str], **kwargs: Any) -> None:
        """Set up, without an import of the modules."""
        super().__init__(*args, **kwargs)
        self._modules = modules_by_command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - of click
        """Return the names in the order given."""
        return list(self._modules)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - of click
        cmd_name: str,
    ) -> click.Command | None:
        """Import the module of a command and return the command; None if there is none."""
        module = self._modules.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of this package becomes a `Problem`."""
        try:
            return super().invoke(ctx)
        except AssistantQueueError as error:
            raise problem_of(error) from error
