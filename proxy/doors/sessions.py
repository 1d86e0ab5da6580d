"""The admin page's login: a signed cookie that holds only its expiry."""

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import Final

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.headers import value
from proxy.secrecy import same_secret

_NAME: Final = "sluice_admin"
_LASTS: Final = 12 * 3600  # seconds


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions signed with the admin token: changing the token ends all of them."""

    admin_token: str = field(repr=False)

    def opened(self, shown: str, secure: bool) -> bytes:
        """The set-cookie value for a client that shows the token. Raises invalid_api_key."""
        if not self.admin_token:
            raise SluiceError(
                "invalid_api_key",
                "Login is not possible: access.admin_token is not set. "
                "Without it, /admin is open to this machine only, while Sluice listens on loopback.",
            )
        if not same_secret(shown, self.admin_token):
            raise SluiceError("invalid_api_key", "The admin token is wrong.")
        ends = str(int(time.time()) + _LASTS)
        plain, for_https = self._names()
        name, more = (for_https, "; Secure") if secure else (plain, "")
        attributes = f"Path=/admin; Max-Age={_LASTS}; HttpOnly; SameSite=Strict{more}"
        return f"{name}={ends}.{self._signature(ends)}; {attributes}".encode()

    def closed(self, headers: Headers) -> list[bytes]:
        """The set-cookie values that end a request's sessions.

        A request without one gets none, and learns no cookie name.
        """
        return [f"{name}=; Path=/admin; Max-Age=0; HttpOnly; SameSite=Strict".encode() for name in self._held(headers)]

    def valid(self, headers: Headers) -> bool:
        """Whether a request carries an unexpired session."""
        return bool(self._held(headers))

    def _held(self, headers: Headers) -> list[str]:
        """The names of the cookies that hold such sessions."""
        cookies = value(headers, b"cookie")
        if cookies is None or not self.admin_token:
            return []
        # Parsed by hand: SimpleCookie drops all cookies if another program on this host has set one without a name.
        pairs = (pair.strip().partition("=") for pair in cookies.decode("latin-1").split(";"))
        names = self._names()
        return [name for name, _, value in pairs if name in names and self._is_session(value)]

    def _is_session(self, text: str) -> bool:
        ends, _, signature = text.partition(".")
        if (
            not ends.isascii()
            or not ends.isdecimal()
            or not hmac.compare_digest(signature.encode(), self._signature(ends).encode())
        ):
            return False
        return int(ends) > time.time()

    def _names(self) -> tuple[str, str]:
        """Cookie names that depend on the token: all ports of a host share its cookies.

        The login of one gateway must not end that of another. The second name is for https: browsers let no page loaded
        by http set a cookie under the name of a Secure one.
        """
        name = f"{_NAME}_{self._signature('')[:8]}"
        return name, f"{name}_https"

    def _signature(self, ends: str) -> str:
        return hmac.new(self.admin_token.encode(), f"{_NAME}.{ends}".encode(), hashlib.sha256).hexdigest()
