"""Security headers of every response, and requests that are rejected: the pages show patients without a login."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, our own forms would have the origin "null"
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


_HARMLESS = {"GET", "HEAD", "OPTIONS"}


class SafeHeaders:
    """Adds the headers; on a loopback address, answers only requests whose Host is an address or a local name.

    Requests that change data are rejected if the browser states that a page of another site sent them.

    A foreign site can point its own name to 127.0.0.1 and so read what only this machine should (DNS rebinding); its
    requests carry that name in Host.
    """

    def __init__(self, app: ASGIApp, loopback: bool) -> None:
        self._app = app
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if self._loopback and not is_local_name(Headers(scope=scope).get("host", "")):
            refused = PlainTextResponse("only this machine is served; use http://127.0.0.1, or set [web] host", 421)
            await refused(scope, receive, send_with_headers)
            return
        if scope["method"] not in _HARMLESS and is_cross_site(Headers(scope=scope)):
            refused = PlainTextResponse("requests from pages of other sites cannot change data here", 403)
            await refused(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser sent the request for a page of another site (Fetch Metadata; in older browsers, Origin)."""
    site = headers.get("sec-fetch-site")
    if site is not None:  # a proxy may rewrite Host, so that Origin would differ
        return site not in ("none", "same-origin")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


def is_loopback(host: str) -> bool:
    """Whether a bind address reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local_name(host: str) -> bool:
    """Whether a Host header holds an address, or a name without a dot, which public DNS does not resolve."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name.rstrip(".")
    return True
