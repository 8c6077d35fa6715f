"""The origin of a request: the client's address behind trusted proxies, and the sending page."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from assistant_queue.integrations.fastapi.settings import Settings

NETWORK_BITS = 64
"""Source: RFC 6177: the least that one customer is given."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Origins:
    """Reads client addresses and checks origins for one service."""

    def __init__(self, settings: Settings) -> None:
        """Parse the networks and origins."""
        self._networks = settings.networks
        self._origins = settings.origins
        self._hosts = (
            None
            if settings.allowed_hosts is None
            else {host.lower() for host in settings.allowed_hosts}
        )

    def is_trusted(self, address: str) -> bool:
        """Return whether the address is that of a trusted proxy."""
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)

    def client_address(self, request: HTTPConnection) -> str:
        """Return the peer's address, or behind trusted proxies the one that the outermost has seen.

        Read from the right: entries further left were written by the client and may be anything.
        """
        peer = request.client.host if request.client else "unknown"
        if not self._networks or not self.is_trusted(peer):
            return peer
        hops = [
            hop.strip()
            for line in request.headers.getlist("x-forwarded-for")
            for hop in line.split(",")
        ]
        for hop in reversed(hops):
            found = _address(hop)
            if found is None:
                # trusted proxies write addresses; anything else is the client's
                return peer
            peer = str(found)
            if not self.is_trusted(peer):
                return peer
        return peer

    def counted_address(self, request: HTTPConnection) -> str:
        """Return the address that limits count: for IPv6 the network, as one client may use it all."""
        address = self.client_address(request)
        found = _address(address)
        return (
            str(ip_network((found, NETWORK_BITS), strict=False))
            if isinstance(found, IPv6Address)
            else address
        )

    def own_host(self, request: HTTPConnection) -> str:
        """Return the host and port that the client used for this service, in lower case."""
        host = request.headers.get("host", "")
        if self._networks and request.client is not None and self.is_trusted(request.client.host):
            host = request.headers.get("x-forwarded-host", host)
        return host.lower()

    def is_known_host(self, request: HTTPConnection) -> bool:
        """Return whether the request's host is one of `allowed_hosts`."""
        if self._hosts is None:
            return True
        return (urlsplit(f"//{self.own_host(request)}").hostname or "") in self._hosts

    def is_own_page(self, request: HTTPConnection) -> bool:
        """Return whether a write or a handshake came from an own or allowed page, or from no page.

        Browsers send `Origin` with each of these. A request with cookies and without an origin is
        judged by `Sec-Fetch-Site` or `Referer`.
        """
        origin = request.headers.get("origin")
        if origin is not None:
            return self._is_ours(origin, request)
        if "cookie" not in request.headers:
            return True
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site in {"same-origin", "none"}
        referer = request.headers.get("referer")
        return referer is not None and self._is_ours(referer, request)

    def _is_ours(self, address: str, request: HTTPConnection) -> bool:
        parts = urlsplit(address.lower())
        if parts.scheme not in {"http", "https"}:
            return False
        return (
            parts.netloc == self.own_host(request)
            or f"{parts.scheme}://{parts.netloc}" in self._origins
        )


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address as proxies write it: some append a port, some map IPv4 into IPv6."""
    for plain in (text, text.rpartition(":")[0].strip("[]")):
        try:
            found = ip_address(plain)
        except ValueError:
            continue
        return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
    return None
