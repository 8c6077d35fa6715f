"""Typed functions as tools: `@queue.tool`."""

from __future__ import annotations

from assistant_queue.tools.approval import AnswerLater
from assistant_queue.tools.toolbox import Offered, Tool, Toolbox, ToolContext, WrongArguments

__all__ = ["AnswerLater", "Offered", "Tool", "ToolContext", "Toolbox", "WrongArguments"]
