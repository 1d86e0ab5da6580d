"""Secrets: constant-time comparison, and removal from texts."""

import hmac
from collections.abc import Callable, Iterable

Blank = Callable[[str], str]
"""Replaces every configured secret in a text."""

_SHORTEST = 4  # characters; anything shorter would blank ordinary words


def same_secret(shown: str, secret: str) -> bool:
    """Whether the two are equal, compared in constant time; an empty secret matches nothing."""
    return bool(secret) and hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), secret.encode())


def blanking(secrets: Iterable[str]) -> Blank:
    """A function that replaces these secrets in a text."""
    # The longest first: where one secret begins with another, no remainder is left.
    hidden = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)

    def blank(text: str) -> str:
        for secret in hidden:
            if secret in text:
                text = text.replace(secret, "[secret]")
        return text

    return blank
