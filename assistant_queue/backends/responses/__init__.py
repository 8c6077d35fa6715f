"""Backend for the Responses and Conversations APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant_queue.deprecated import old_names

if not TYPE_CHECKING:  # a type checker would take any name for one of this module
    __getattr__ = old_names(__name__)
