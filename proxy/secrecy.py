"""Secrets: compared in constant time, and taken out of texts."""

import hmac
from collections.abc import Callable, Iterable

Blank = Callable[[str], str]
"""Takes every configured secret out of a text."""

_SHORTEST = 4  # characters; anything shorter would blank ordinary words


def same_secret(shown: str, secret: str) -> bool:
    """Whether a secret was shown, in constant time; an empty secret is never matched."""
    return bool(secret) and hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), secret.encode())


def blanking(secrets: Iterable[str]) -> Blank:
    """A function that takes these secrets out of a text."""
    # The longest first, so that one which begins like another leaves no piece.
    hidden = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)

    def blank(text: str) -> str:
        for secret in hidden:
            if secret in text:
                text = text.replace(secret, "[secret]")
        return text

    return blank
