"""Selection of the backend by the options, and its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assistant_queue.errors import ConfigurationError
from assistant_queue.user_code.functions import qualified_name

if TYPE_CHECKING:
    from assistant_queue.config import Config

_CHOOSES_BACKEND = ("assistant_id", "model", "prompt", "backend")
_SPOKEN_WITH = {
    "responses": {"model", "prompt"},
    "assistants": {"assistant_id"},
    "chat_completions": {"model"},
}


def name_of_backend(backend: Any) -> str:
    """Return the name of a custom backend for the fingerprint and for logs.

    It is the same in each process, independent of the module that it was imported from.
    """
    name = getattr(backend, "name", None)
    if isinstance(name, str):
        return name
    if not callable(backend):
        return type(backend).__name__
    return f"function:{qualified_name(backend)}"


def can_write(config: Config) -> bool:
    """Return whether the backend can write a reply of `say` to a conversation.

    A function can if the queue remembers its history. A queue that only adds messages may name no
    backend: its workers decide.
    """
    if config.backend is None:
        return True
    capabilities = getattr(config.backend, "capabilities", None)
    return bool(getattr(capabilities, "writes", False))


def takes_files(config: Config) -> bool:
    """Return whether pictures and documents can be part of a message, as data URLs.

    The Assistants protocol takes links alone. A queue that only adds messages may name no backend.
    """
    if config.backend is None:
        return config.assistant_id is None
    capabilities = getattr(config.backend, "capabilities", None)
    return bool(getattr(capabilities, "inline_files", True))


def choose_backend(config: Config, options: Mapping[str, Any]) -> Config:
    """Return the options with one backend: a keyword's choice overrides the environment's."""
    chosen = [name for name in _CHOOSES_BACKEND if options.get(name) is not None]
    if chosen:
        leave = {name: None for name in _CHOOSES_BACKEND if name not in chosen}
        config = config.model_copy(update=leave)
    config = _settle_protocol(config, options, chosen)
    if config.assistant_id is not None and (config.model is not None or config.prompt is not None):
        msg = (
            "assistant_id chooses the Assistants protocol and model/prompt choose Responses: give "
            "one of them (another model for the assistant's runs: run_options={'model': ...})"
        )
        raise ConfigurationError(msg)
    if config.backend is not None and len(chosen) > 1:
        others = ", ".join(name for name in chosen if name != "backend")
        msg = f"backend= brings its own model: leave out {others}"
        raise ConfigurationError(msg)
    _check_run_mode(config)
    return config


def window_s(run_options: Mapping[str, Any]) -> float:
    """Return the seconds of `background_options.completion_window`, 0.0 for none or `soonest`."""
    given = run_options.get("background_options")
    window = given.get("completion_window") if isinstance(given, Mapping) else None
    hours = window.removesuffix("h") if isinstance(window, str) and window.endswith("h") else ""
    return int(hours) * 3600.0 if hours.isascii() and hours.isdigit() else 0.0


def _check_run_mode(config: Config) -> None:
    """Check that runs can be left to the provider.

    Raises:
        ConfigurationError: They cannot.
    """
    if config.run_mode == "stream":
        if window_s(config.run_options):
            raise ConfigurationError(
                "run_options: a completion_window needs run_mode='background': the provider takes "
                "it without a stream alone"
            )
        return
    if config.protocol == "chat_completions":
        raise ConfigurationError(
            "run_mode='background' needs Responses or Assistants: a chat completion ends with its "
            "request, and its server keeps nothing that could be asked for later"
        )
    capabilities = getattr(config.backend, "capabilities", None)
    if config.backend is not None and not getattr(capabilities, "background", False):
        raise ConfigurationError(
            "run_mode='background' needs Responses or Assistants: "
            f"{name_of_backend(config.backend)!r} works in the worker itself, and no provider "
            "continues without it (a Backend of your own sets capabilities.background and has "
            "check_run)"
        )


def _settle_protocol(config: Config, options: Mapping[str, Any], chosen: Sequence[str]) -> Config:
    """Check a named protocol against the options that choose a backend.

    Contradicting options from the environment are dropped; contradicting keywords are an error.
    """
    if config.protocol is None:
        return config
    foreign = [
        name
        for name in _CHOOSES_BACKEND
        if getattr(config, name) is not None and name not in _SPOKEN_WITH[config.protocol]
    ]
    if options.get("protocol") is None and any(name in foreign for name in chosen):
        return config.model_copy(update={"protocol": None})
    if any(name in foreign for name in chosen):
        contradicting = ", ".join(f"{name}=" for name in foreign if name in chosen)
        needed = " or ".join(f"{name}=" for name in sorted(_SPOKEN_WITH[config.protocol]))
        raise ConfigurationError(
            f"protocol={config.protocol!r} goes with {needed}: leave out {contradicting}, or the "
            "protocol"
        )
    return config.model_copy(update=dict.fromkeys(foreign))
