"""Headers of a translated request: those of the client that still apply, the config's, the provider's own."""

from collections.abc import Callable, Collection
from typing import Final

from proxy.call import Headers
from proxy.headers import Lines
from proxy.providers.contract import Order

_OWN: Final = (b"accept", b"content-type", b"content-length", b"authorization", b"x-api-key", b"api-key")
_DIALECT: Final = (b"x-stainless-", b"openai-")  # telemetry of OpenAI's SDKs


def forward(order: Order, own: Headers, without: Collection[bytes] = ()) -> Headers:
    """`own` over the config's over the client's headers, less those of the client that start with one of `without`."""
    skip = (*_DIALECT, *without)
    passing = [(name, value) for name, value in order.headers if name not in _OWN and not name.startswith(skip)]
    fixed = {name for name, _ in own}
    configured = [(name, value) for name, value in order.target.headers if name not in fixed]
    taken = fixed | {name for name, _ in configured}
    return [*own, *configured, *((name, value) for name, value in passing if name not in taken)]


def once(order: Order, key: tuple[object, ...], make: Callable[[Order], Headers]) -> Headers:
    """The lines that `make` gives, cached with the client's headers, which repeat on a connection.

    `key`: everything else that they depend on.
    """
    if not isinstance(order.headers, Lines):
        return make(order)
    lines: Lines | None = order.headers.worked.get(key)
    if lines is None:
        lines = order.headers.worked[key] = Lines(make(order))
    return lines
