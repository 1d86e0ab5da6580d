"""Access to the endpoints that are not for clients: operators by token or on loopback, and our own pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Scope

from proxy.doors.front import Check
from proxy.doors.reading import bearer
from proxy.doors.sessions import Sessions
from proxy.doors.table import Access
from proxy.errors import SluiceError
from proxy.headers import value
from proxy.hosts import is_loopback
from proxy.secrecy import same_secret

_BROWSERS = (b"origin", b"sec-fetch-site")  # headers that only browsers send
_FORWARDING = (b"forwarded", b"x-forwarded-", b"x-real-ip", b"via")  # prefixes of headers that proxies add


@dataclass(frozen=True, slots=True)
class Guard:
    """The access checks of one configuration. `host`: the address that the server is bound to."""

    admin_token: str = field(repr=False)
    host: str
    closed_metrics: bool
    sessions: Sessions
    open_keys: bool = False  # access.keys: open
    cors: frozenset[str] = frozenset()  # origins whose pages may call /v1

    def checks(self) -> Mapping[Access, Check]:
        """The check for each access class, run before the endpoint."""
        checks: dict[Access, Check] = {"metrics": self.metrics, "admin": self.admin, "page": self.page}
        checks["chat"], checks["desk"] = self.page, self.desk
        if self.open_keys and is_loopback(self.host):
            checks["client"] = self.client
        return checks

    def client(self, scope: Scope) -> None:
        """Refuses browsers that address a loopback server by a foreign host name (DNS rebinding)."""
        headers = scope["headers"]
        host = hostname((value(headers, b"host") or b"").decode("latin-1"))
        if not is_loopback(host) and any(name in _BROWSERS for name, _ in headers):
            origin = (value(headers, b"origin") or b"").decode("latin-1")
            if origin in self.cors or "*" in self.cors:
                return
            raise SluiceError("policy_forbidden", "Browsers may not use this Host header for a loopback address.")

    def metrics(self, scope: Scope) -> None:
        """Open, or for holders of the admin token."""
        if self.closed_metrics:
            self._operator(scope)

    def admin(self, scope: Scope) -> None:
        """For operators; refuses requests from pages of another origin."""
        self.page(scope)
        self._operator(scope)

    def desk(self, scope: Scope) -> None:
        """For operators. Browsers get the page without a token too: it holds no data, and leads to the login."""
        self.page(scope)
        if b"text/html" not in (value(scope["headers"], b"accept") or b""):
            self._operator(scope)

    def page(self, scope: Scope) -> None:
        """Refuses foreign origins on requests that change something, and foreign host names for a loopback address."""
        host = (value(scope["headers"], b"host") or b"").decode("latin-1")
        if is_loopback(self.host) and not is_loopback(hostname(host)):
            raise SluiceError("policy_forbidden", "This Host header is not allowed for a loopback address.")
        origin = value(scope["headers"], b"origin")
        if origin is not None and scope["method"] not in ("GET", "HEAD"):
            if origin.decode("latin-1").partition("://")[2] != host:
                raise SluiceError("policy_forbidden", "Requests from pages of other origins are not allowed.")

    def _operator(self, scope: Scope) -> None:
        if not self.admin_token:
            peer = scope.get("client")
            near = is_loopback(self.host) and peer is not None and is_loopback(peer[0])
            if near and not any(name.startswith(_FORWARDING) for name, _ in scope["headers"]):
                return
            raise SluiceError("invalid_api_key", "An admin token is required, but access.admin_token is not set.")
        if self.sessions.valid(scope["headers"]):
            return
        shown = value(scope["headers"], b"authorization")
        if not same_secret((bearer(shown) if shown else None) or "", self.admin_token):
            raise SluiceError("invalid_api_key", "The admin token is missing or wrong.")


def hostname(host: str) -> str:
    """The host of a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
