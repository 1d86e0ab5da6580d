"""Addresses in settings: validation and normalization."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from proxy.hosts import is_loopback, url_host

_STORES: Final = ("sqlite", "postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What settings need to know of a provider."""

    base_url: str  # where it lives when config.yaml does not say; "": nowhere, or started by Sluice itself
    usual_path: str  # appended to a base_url that has no path: "/v1"
    key_variable: str  # the environment variable that usually holds its key; "": none
    key_required: bool  # even at an address of the user's own


def split_url(text: str) -> SplitResult:
    """The parts of an absolute URL with a host and, if any, a port from 1 to 65535. Raises ValueError.

    The error never quotes the text, which may hold a password.
    """
    wanted = "expected an address such as https://host/path"
    try:
        parts = urlsplit(text)
        usable = parts.hostname is not None and parts.port != 0
    except ValueError as error:
        raise ValueError(wanted) from error
    if not usable or any(character <= " " or character == "\x7f" for character in text):
        raise ValueError(wanted)
    return parts


def upstream_address(text: str, facts: ProviderFacts) -> str:
    """A base_url without trailing slash and, if it has no path, with the provider's usual one. Raises ValueError.

    For a provider whose own server is on this machine (Ollama), the short forms of `OLLAMA_HOST` work too: missing
    scheme, host and port are filled in, and 0.0.0.0, an address to listen on, becomes 127.0.0.1.
    """
    usual = urlsplit(facts.base_url)
    local = is_loopback(usual.hostname or "")
    bare = local and "://" not in text
    host = usual.hostname if text.startswith(":") else ""
    parts = split_url(web_address(f"{usual.scheme}://{host}{text}" if bare else text))
    if parts.query or parts.fragment:
        raise ValueError("expected an address without ? and #")
    host, port = parts.hostname or "", parts.port or (usual.port if bare else None)
    if local and host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    place = url_host(host) + (f":{port}" if port else "")
    return f"{parts.scheme}://{place}{parts.path.rstrip('/') or facts.usual_path.rstrip('/')}"


def web_address(text: str) -> str:
    """An http or https URL without user name and password. Raises ValueError."""
    parts = split_url(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("expected an address that begins with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("expected an address without user name and password")
    return text


def proxy_address(text: str) -> str:
    """A forward proxy's URL; "": none. Raises ValueError."""
    if text and split_url(text).scheme not in ("http", "https", "socks5", "socks5h"):
        raise ValueError("expected the address of a forward proxy, such as http://host:3128 or socks5h://host:1080")
    return text


def bare_host(text: str) -> str:
    """A host without the brackets that an IPv6 address has in URLs."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def store_address(text: str) -> str:
    """`sqlite:///file` or `postgresql://…`. Raises ValueError."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in _STORES or (scheme == "sqlite" and not rest.startswith("/")):
        raise ValueError("expected sqlite:///file.db or postgresql://user:password@host/database")
    if scheme != "sqlite":
        split_url(text)
    return text


def store_beside(text: str, folder: Path) -> str:
    """The same with a relative SQLite path made absolute, relative to `folder`: `sqlite:////etc/sluice/sluice.db`."""
    scheme, _, file = text.partition(":///")
    if scheme != "sqlite" or not file or file.startswith((":memory:", "/")):
        return text
    return f"sqlite:///{folder.absolute() / file}"


def cache_address(text: str) -> str:
    """`memory` or `redis://host:6379/0`. Raises ValueError."""
    if text != "memory" and (not text.startswith(("redis://", "rediss://")) or not split_url(text)):
        raise ValueError("expected memory or redis://host:6379/0")
    return text


def origin(text: str) -> str:
    """A web origin, `https://host[:port]`, or `*`. Raises ValueError."""
    wanted = "expected an origin such as https://app.example.com, without a path, or *"
    if text == "*":
        return text
    parts = split_url(text)
    if text != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        raise ValueError(wanted)
    return text


def passwords(text: str) -> tuple[str, ...]:
    """The password in a URL, as written and decoded; nothing if there is none."""
    password = urlsplit(text).password
    return (password, unquote(password)) if password else ()
