"""Choose how the requests of a queue are sent.

Over aiohttp if it is installed (extra `speed`) and nothing unusual is configured; else over the
client library, which then decides what every setting means.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from assistant_queue.backends.openai.sending import Sender

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_USUAL_URL = "https://api.openai.com/v1"

_UNUSUAL = ("OPENAI_CUSTOM_HEADERS", "OPENAI_LOG")
"""Variables of the environment that only the client library knows what to do with."""


def open_sender(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    openai_client: OpenAI | AsyncOpenAI | None = None,
    runs: int = 1,
) -> Sender:
    """Return the sender that these options select; the arguments are those of `build_client`.

    Raises:
        ConfigurationError: As `build_client` does.
    """
    if openai_client is None and find_spec("aiohttp") is not None:
        key = api_key or os.environ.get("OPENAI_API_KEY", "")
        address = base_url or os.environ.get("OPENAI_BASE_URL") or _USUAL_URL
        if is_usual(key, address):
            from assistant_queue.backends.openai.aiohttp_sender import AiohttpSender

            return AiohttpSender(
                api_key=key,
                base_url=address,
                organization=os.environ.get("OPENAI_ORG_ID"),
                project=os.environ.get("OPENAI_PROJECT_ID"),
            )
    from assistant_queue.backends.openai.clients import build_client
    from assistant_queue.backends.openai.library_sender import LibrarySender

    given: dict[str, Any] = {"api_key": api_key, "base_url": base_url, "runs": runs}
    return LibrarySender(build_client(openai_client=openai_client, **given))


def is_usual(api_key: str, base_url: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a request with these settings needs nothing that only the library has.

    It has proxies, headers from the environment, logs of requests, and its own reading of addresses
    with a query, a user or international names.
    """
    if not api_key or not (api_key.isascii() and api_key.isprintable()):
        return False
    if any(environment.get(name) for name in _UNUSUAL):
        return False
    try:
        parts = urlsplit(base_url)
        is_plain = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    if not is_plain or parts.username or parts.query or parts.fragment or not base_url.isascii():
        return False
    return not _has_proxy(parts.scheme, parts.hostname or "")


def _has_proxy(scheme: str, host: str) -> bool:
    proxies = getproxies()
    if not (proxies.get(scheme) or proxies.get("all")):
        return False
    return not proxy_bypass(host)
