"""Admits or refuses a caller by its client key, and determines the tenant that owns the call."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proxy.call import Call
from proxy.errors import SluiceError


def tenant_of(digest: str) -> str:
    """The tenant of a key, derived from its SHA-256: the key cannot be recovered from it."""
    return f"key-{digest[:12]}"


@dataclass(slots=True)
class Keyring:
    """The client keys that are accepted; without `required` every caller is the one tenant "open".

    `made`: looks up a key that operators made, and sets the call's tenant and allowance; False: there is no such key.
    """

    required: bool
    keys: Iterable[str] = field(default=(), repr=False)
    made: Callable[[Call, str], bool] = lambda call, credential: False
    _tenants: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Dict look-ups use SipHash with a secret per process, so their timing reveals nothing about a key.
        self._tenants = {key: tenant_of(hashlib.sha256(key.encode()).hexdigest()) for key in self.keys if key}

    def admit(self, call: Call) -> None:
        """Sets the call's tenant; does nothing for a call admitted before. Raises invalid_api_key."""
        if call.tenant is not None:
            return
        if not self.required:
            call.tenant = "open"
            return
        if call.credential is None:
            raise SluiceError(
                "invalid_api_key", "No API key was sent. Use `Authorization: Bearer KEY`, `x-api-key` or `api-key`."
            )
        tenant = self._tenants.get(call.credential)
        if tenant is not None:
            call.tenant = tenant
        elif not self.made(call, call.credential):
            raise SluiceError("invalid_api_key", "The API key is not valid.")
