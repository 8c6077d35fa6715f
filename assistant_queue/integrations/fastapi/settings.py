"""The options of the HTTP service, validated once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypedDict
from urllib.parse import urlsplit

from fastapi.security.base import SecurityBase
from limits import RateLimitItem, parse_many

from assistant_queue.errors import ConfigurationError, UnknownOption

Network = IPv4Network | IPv6Network


class HttpOptions(TypedDict, total=False):
    """Keywords of `create_router` and `create_app`; `Settings` has meanings and defaults."""

    rate_limit: str | None
    request_limit: str | None
    frame_limit: str | None
    allowed_origins: Sequence[str]
    allowed_hosts: Sequence[str] | None
    trusted_proxies: Sequence[str]
    max_body_bytes: int
    max_streams: int
    max_streams_per_client: int
    max_wait: float
    heartbeat: float
    recheck_access: float
    reconnect_after: float
    security: Sequence[SecurityBase]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and origins of the service. All times are seconds.

    Attributes:
        rate_limit: Requests that start work, per client: "5/minute", or "5/minute;100/hour" for
            both. None: no limit.
        request_limit: All requests, per address, counted before `authorize` is called. None: no
            limit.
        frame_limit: Messages of any kind on one socket, readable or not; all sockets of a client
            together may send four times as many. A socket beyond it is slowed down, and closed if
            it continues. None: no limit.
        allowed_origins: Other origins with pages that may call: "https://chat.example.com". The
            service's own is always allowed.
        allowed_hosts: Accepted hosts; None for any. Against pages of other sites that point their
            own name at your machine.
        trusted_proxies: Addresses or networks of proxies with a trusted `X-Forwarded-For`, `-Proto`
            and `-Host`; those of other peers are ignored.
        max_body_bytes: Maximum length of a body, or of a message on a socket.
        max_streams: Streams, sockets and waiting requests of one process.
        max_streams_per_client: Streams, sockets and waiting requests of one client.
        max_wait: Longest wait of a request for a reply.
        heartbeat: Interval of pings on a silent stream.
        recheck_access: Interval of calls of `authorize` while a stream is open.
        reconnect_after: Delay after which browsers reconnect to a stream.
        security: Security schemes for the OpenAPI document: FastAPI's own objects, such as
            `HTTPBearer(auto_error=False)`. `authorize` alone decides.
    """

    rate_limit: str | None = None
    request_limit: str | None = None
    frame_limit: str | None = "20/second"
    allowed_origins: Sequence[str] = ()
    allowed_hosts: Sequence[str] | None = None
    trusted_proxies: Sequence[str] = ()
    max_body_bytes: int = 1_000_000
    max_streams: int = 2_000
    max_streams_per_client: int = 20
    max_wait: float = 60.0
    heartbeat: float = 15.0
    recheck_access: float = 60.0
    reconnect_after: float = 1.0
    security: Sequence[SecurityBase] = ()

    @property
    def max_connections(self) -> int:
        """Connections of one process: `max_streams`, and as many, at least 1,000, for the rest."""
        return self.max_streams + max(self.max_streams, 1000)

    @property
    def networks(self) -> tuple[Network, ...]:
        """`trusted_proxies`, parsed."""
        return tuple(_network(one) for one in self.trusted_proxies)

    @property
    def origins(self) -> frozenset[str]:
        """`allowed_origins`, as browsers spell them."""
        return frozenset(_origin(one) for one in self.allowed_origins)


def make_settings(options: dict[str, Any]) -> Settings:
    """Validate keywords and return the settings.

    Raises:
        ConfigurationError: An option is unknown or has an invalid value.
    """
    known = {field.name for field in fields(Settings)}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UnknownOption(
            f"the HTTP service has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    settings = Settings(**options)
    for name in ("rate_limit", "request_limit", "frame_limit"):
        limits_of(getattr(settings, name), name)
    for name in ("max_body_bytes", "max_streams", "max_streams_per_client"):
        _number(name, getattr(settings, name), whole=True)
    for name in ("max_wait", "heartbeat", "recheck_access", "reconnect_after"):
        _number(name, getattr(settings, name), whole=False)
    for name in ("allowed_origins", "allowed_hosts", "trusted_proxies"):
        if isinstance(getattr(settings, name), str):
            raise ConfigurationError(f"{name} must be a list of strings, not one string")
    _ = settings.networks, settings.origins
    if not isinstance(settings.security, Sequence) or not all(
        isinstance(one, SecurityBase) for one in settings.security
    ):
        raise ConfigurationError(
            "Invalid security: expected a list of FastAPI's security objects, "
            "such as [HTTPBearer(auto_error=False)]"
        )
    return settings


def limits_of(text: str | None, name: str = "rate_limit") -> list[RateLimitItem]:
    """Parse a limit with the limits library; return an empty list for None.

    Raises:
        ConfigurationError: It is invalid.
    """
    if text is None:
        return []
    try:
        return parse_many(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{name} cannot be read: {text!r}; write it as 5/minute, or 5/minute;100/hour"
        ) from error


def _number(name: str, value: Any, *, whole: bool) -> None:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < float("inf"):
        raise ConfigurationError(
            f"{name} must be a {'whole ' if whole else ''}number above 0, not {value!r}"
        )


def _network(text: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigurationError(
            f"trusted_proxies: {text!r} is no address and no network such as 10.0.0.0/8"
        ) from error


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.netloc
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
    ):
        raise ConfigurationError(
            f"allowed_origins: {text!r} is no origin such as https://chat.example.com"
        )
    return f"{parts.scheme}://{parts.netloc}".lower()
