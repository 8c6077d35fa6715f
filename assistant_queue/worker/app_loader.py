"""Find the user's queue object.

By `--app module:attribute`, by `ASSISTANT_QUEUE_APP`, or from the environment alone.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from typing import Any

from assistant_queue.config import Config, configure
from assistant_queue.errors import ConfigurationError

APP_VARIABLE = "ASSISTANT_QUEUE_APP"


def load_app(path: str | None = None) -> Config:
    """Return the configuration of the user's queue object.

    Args:
        path: `module:attribute`; None for `ASSISTANT_QUEUE_APP`, and without that for a queue built
            from the environment.

    Raises:
        ConfigurationError: The path has another form, the module cannot be imported or raises, or
            there is no queue at that place.
    """
    path = path or os.environ.get(APP_VARIABLE)
    return configure({}) if not path else _load(path)


def look_here() -> None:
    """Import from the working directory, as `python -m` does and console scripts do not."""
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109


def check_queue_names(config: Config, names: Sequence[str]) -> None:
    """Check that a worker started by RQ's command listens on the app's queue.

    Raises:
        ConfigurationError: It does not; its threads would never be answered.
    """
    if config.queue_prefix not in names:
        raise ConfigurationError(
            f"this worker listens on {', '.join(names)}, but the app's queue_prefix is "
            f"{config.queue_prefix!r}; start it on that queue"
        )


@cache
def _load(path: str) -> Config:
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigurationError(
            f"the app {path!r} is not of the form module:attribute, as in myapp:queue"
        )
    look_here()
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(
            f"the app {path!r} cannot be imported: {_clause(error)}; {_import_hint(module_name, error)}"
        ) from error
    except ConfigurationError:
        raise
    except SystemExit as error:
        raise ConfigurationError(
            f"the app {path!r} ends the program when it is imported; put what it does as a script "
            "under `if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = (
            f"{error.filename}:{error.lineno}"
            if isinstance(error, SyntaxError)
            else f"{last.filename}:{last.lineno}"
        )
        raise ConfigurationError(
            f"the app {path!r} raised {type(error).__name__} at {place}: {_clause(error)}; "
            "correct it, or name another one"
        ) from error
    target: Any = module
    for name in attribute.split("."):
        target = getattr(target, name, None)
    config = getattr(target, "config", None)
    if isinstance(config, Config):
        return config
    found = (
        f"{attribute} is {type(target).__name__}"
        if target is not None
        else f"there is no {attribute}"
    )
    raise ConfigurationError(
        f"the app {path!r} is not a queue: {found} in {module_name}; name an AssistantMessageQueue"
    )


def _clause(error: Exception) -> str:
    """Return the error's text without its full stop: the sentence continues with what to do."""
    return str(error).rstrip(". ")


def _import_hint(module_name: str, error: ImportError) -> str:
    """Return the remedy for an app that cannot be imported, or that lacks an import."""
    if "/" in module_name or "\\" in module_name:
        return "name the module, not its file: myapp:queue, or shop.myapp:queue"
    if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
        return f"start this where `import {module_name}` works"
    return (
        f"{module_name} was found, but this environment lacks an import of it: "
        "install that, or correct the import"
    )
