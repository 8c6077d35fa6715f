"""For tests of this package and of what is built on it: the strict stand-in provider.

Needs the extra `testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assistant_queue.errors import MissingExtra

if TYPE_CHECKING:
    from assistant_queue.testing.provider import Personality, StandInProvider

__all__ = ["Personality", "StandInProvider"]


if not TYPE_CHECKING:  # a type checker would take any name for one of this package

    def __getattr__(name: str) -> Any:
        """Import a name when it is asked for: pytest loads the plugin of this package everywhere."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{__name__}.provider"), name)
        except ModuleNotFoundError as error:
            missing = str(error.name).partition(".")[0]
            raise MissingExtra(
                f"{__name__} needs {missing}, not installed: pip install 'assistant-queue[testing]'"
            ) from error
