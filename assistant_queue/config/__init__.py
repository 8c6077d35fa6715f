"""Options: their model, their keywords, and the protocol that they select."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant_queue.config.keywords import Options
from assistant_queue.config.options import (
    DEFAULT_INSTRUCTIONS,
    ENV_PREFIX,
    MAX_SECONDS,
    NO_CLUSTER,
    Config,
    configure,
    to_ms,
)
from assistant_queue.deprecated import old_names

__all__ = [
    "DEFAULT_INSTRUCTIONS",
    "ENV_PREFIX",
    "MAX_SECONDS",
    "NO_CLUSTER",
    "Config",
    "Options",
    "configure",
    "to_ms",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of this module
    __getattr__ = old_names(__name__)
