"""The header lines of a translated request: the client's that still make sense, the config's, the provider's own."""

from collections.abc import Callable, Collection
from typing import Final

from proxy.call import Headers
from proxy.headers import Lines
from proxy.providers.contract import Order

_OWN: Final = (b"accept", b"content-type", b"content-length", b"authorization", b"x-api-key", b"api-key")
_DIALECT: Final = (b"x-stainless-", b"openai-")  # what OpenAI's clients tell OpenAI


def forward(order: Order, own: Headers, without: Collection[bytes] = ()) -> Headers:
    """`own` over the config's lines over the client's, less those that start with one of `without`."""
    skip = (*_DIALECT, *without)
    passing = [(name, value) for name, value in order.headers if name not in _OWN and not name.startswith(skip)]
    fixed = {name for name, _ in own}
    configured = [(name, value) for name, value in order.target.headers if name not in fixed]
    taken = fixed | {name for name, _ in configured}
    return [*own, *configured, *((name, value) for name, value in passing if name not in taken)]


def once(order: Order, key: tuple[object, ...], make: Callable[[Order], Headers]) -> Headers:
    """The lines that `make` gives, kept with the client's own, which a connection repeats.

    `key`: all that they depend on besides the client's lines.
    """
    if not isinstance(order.headers, Lines):
        return make(order)
    lines: Lines | None = order.headers.worked.get(key)
    if lines is None:
        lines = order.headers.worked[key] = Lines(make(order))
    return lines
