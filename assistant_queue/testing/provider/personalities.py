"""Personalities by name."""

from __future__ import annotations

from collections.abc import Mapping

from assistant_queue.errors import ConfigurationError
from assistant_queue.testing.provider.named import Named
from assistant_queue.testing.provider.named_clouds import CLOUDS
from assistant_queue.testing.provider.named_servers import SERVERS
from assistant_queue.testing.provider.personality import Personality

NAMED: Mapping[str, Named] = {**SERVERS, **CLOUDS}
"""Every server that the stand-in can be, by name."""


class UnknownPersonality(ConfigurationError):
    """No server of this name is known.

    Nothing was started or changed; the message lists the names.
    """

    code = "unknown_personality"


def personality_of(given: Personality | str | None) -> Personality:
    """Return the personality of this name, or the one given; the strict one for None.

    Raises:
        UnknownPersonality: No server has this name.
    """
    if given is None:
        return Personality()
    if isinstance(given, Personality):
        return given
    if given not in NAMED:
        raise UnknownPersonality(
            f"Invalid personality {given!r}: expected one of {', '.join(sorted(NAMED))}, or a "
            "Personality"
        )
    return NAMED[given].personality
