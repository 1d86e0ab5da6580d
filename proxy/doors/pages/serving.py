"""Serves the chat page, the admin page and their files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.types import Receive, Scope, Send

from proxy.call import Headers
from proxy.doors.front import respond
from proxy.doors.pages.assets import Asset, publish, sources
from proxy.doors.table import App, Endpoint
from proxy.errors import SluiceError
from proxy.headers import value

_READING: Final = frozenset({"GET", "HEAD"})
_POLICY: Final = (
    b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types dompurify"
)
# same-origin, not no-referrer: that would give the login form's POST `Origin: null`, and it would be refused.
_PAGE: Final = [
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
]
_FOR_GOOD: Final = (b"cache-control", b"public, max-age=31536000, immutable")
_ALWAYS: Final = [(b"x-content-type-options", b"nosniff"), (b"vary", b"accept-encoding")]


def _published() -> Mapping[str, Asset]:
    return publish(sources(Path(__file__).parent))


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages, read and hashed once.

    The HTML holds no secrets; the data that it loads has access checks of its own.
    """

    assets: Mapping[str, Asset] = field(default_factory=_published)

    def endpoints(self) -> list[Endpoint]:
        """What this door adds to the table."""
        public = {asset.name: asset for asset in self.assets.values() if not asset.name.endswith(".html")}

        async def file(scope: Scope, receive: Receive, send: Send) -> None:
            found = public.get(scope["sluice.rest"])
            if found is None:
                raise SluiceError("client_invalid_request", "There is no such file.", status=404)
            await _send(scope, send, found, [_FOR_GOOD])

        return [
            Endpoint("/ui", _READING, "page", self._page("chat.html")),
            Endpoint("/admin", _READING, "desk", self._page("admin.html")),
            Endpoint("/admin/login", _READING, "page", self._page("login.html")),
            Endpoint("/static/*", _READING, "open", file),
        ]

    def _page(self, name: str) -> App:
        page = self.assets[name]

        async def shown(scope: Scope, receive: Receive, send: Send) -> None:
            if page.tag in (value(scope["headers"], b"if-none-match") or b""):
                await respond(scope, send, 304, b"", [*_PAGE, *_ALWAYS, (b"etag", page.tag)])
            else:
                await _send(scope, send, page, [*_PAGE, (b"etag", page.tag)])

        return shown


async def _send(scope: Scope, send: Send, asset: Asset, headers: Headers) -> None:
    lines = [(b"content-type", asset.kind), *_ALWAYS, *headers]
    body = asset.body
    if b"gzip" in (value(scope["headers"], b"accept-encoding") or b""):
        lines.append((b"content-encoding", b"gzip"))
        body = asset.packed
    await respond(scope, send, 200, body, lines)
