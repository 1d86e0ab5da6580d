"""The admin page's login: a signed cookie that holds nothing but when it ends."""

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
    """Signed with the admin token itself: another token ends every session."""

    admin_token: str = field(repr=False)

    def opened(self, shown: str, secure: bool) -> bytes:
        """The set-cookie value for whoever shows the token. Raises invalid_api_key."""
        if not self.admin_token:
            raise SluiceError(
                "invalid_api_key",
                "There is nothing to log in with: access.admin_token is not set. "
                "/admin opens without it, on this machine alone, while Sluice listens on loopback.",
            )
        if not same_secret(shown, self.admin_token):
            raise SluiceError("invalid_api_key", "The admin token is wrong.")
        ends = str(int(time.time()) + _LASTS)
        attributes = f"Path=/admin; Max-Age={_LASTS}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
        return f"{self._name}={ends}.{self._signature(ends)}; {attributes}".encode()

    def closed(self) -> bytes:
        """The set-cookie value that ends a session."""
        return f"{self._name}=; Path=/admin; Max-Age=0; HttpOnly; SameSite=Strict".encode()

    def valid(self, headers: Headers) -> bool:
        """Whether a request carries a session that has not ended."""
        cookies = value(headers, b"cookie")
        if cookies is None or not self.admin_token:
            return False
        # By hand: SimpleCookie gives up all cookies for one that another program on this host made without a name.
        pairs = (pair.strip().partition("=") for pair in cookies.decode("latin-1").split(";"))
        ends, _, signature = next((value for name, _, value in pairs if name == self._name), "").partition(".")
        if (
            not ends.isascii()
            or not ends.isdecimal()
            or not hmac.compare_digest(signature.encode(), self._signature(ends).encode())
        ):
            return False
        return int(ends) > time.time()

    @property
    def _name(self) -> str:
        """Of this token alone: ports share their host's cookies, and one gateway's login must not end another's."""
        return f"{_NAME}_{self._signature('')[:8]}"

    def _signature(self, ends: str) -> str:
        return hmac.new(self.admin_token.encode(), f"{_NAME}.{ends}".encode(), hashlib.sha256).hexdigest()
