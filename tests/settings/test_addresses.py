"""Addresses: usable ones, how they are written, which stay on this machine."""

from pathlib import Path

import pytest

from proxy.settings import addresses
from tests.settings.facts import PROVIDERS


@pytest.mark.parametrize(
    ("provider", "text", "address"),
    [
        ("openai", "https://example.openai.azure.com/openai/v1", "https://example.openai.azure.com/openai/v1"),
        ("openai", "http://10.0.0.1:8000", "http://10.0.0.1:8000/v1"),
        ("openai", "http://10.0.0.1:8000/", "http://10.0.0.1:8000/v1"),
        ("openai", "http://h/x/", "http://h/x"),
        ("openai", "http://[::1]:80/v1", "http://[::1]:80/v1"),
        ("openrouter", "https://openrouter.ai", "https://openrouter.ai/api/v1"),
        ("ollama", "http://box:11434/", "http://box:11434"),
        ("ollama", "box", "http://box:11434"),
        ("ollama", "0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("ollama", ":1234", "http://127.0.0.1:1234"),
        ("ollama", "https://ollama.example", "https://ollama.example"),
    ],
)
def test_base_urls_are_completed(provider: str, text: str, address: str) -> None:
    assert addresses.upstream_address(text, PROVIDERS[provider]) == address


@pytest.mark.parametrize(
    "text",
    [
        "api.example.com/v1",
        "ftp://h/v1",
        "https://",
        "https:///v1",
        "https://user:hunter2@h/v1",
        "https://h/v1?key=hunter2",
        "https://h/v1#x",
        "https://h:0/v1",
        "https://h:99999/v1",
        "https://h:x/v1",
        "https://h/v 1",
        "https://[::1/v1",
        "https://h\n/v1",
    ],
)
def test_an_invalid_base_url_is_an_error_that_does_not_quote_it(text: str) -> None:
    with pytest.raises(ValueError, match="^expected an address") as caught:
        addresses.upstream_address(text, PROVIDERS["openai"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "http://h:3128", "https://u:p@h", "socks5://h", "socks5h://h:1"])
def test_forward_proxy_addresses_are_accepted(text: str) -> None:
    assert addresses.proxy_address(text) == text


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (addresses.proxy_address, "h:3128"),
        (addresses.proxy_address, "ftp://h"),
        (addresses.store_address, "sluice.db"),
        (addresses.store_address, "mysql://h/d"),
        (addresses.store_address, "sqlite://h/d"),
        (addresses.store_address, "postgresql://"),
        (addresses.cache_address, "redis"),
        (addresses.cache_address, "redis://"),
        (addresses.cache_address, "http://h"),
        (addresses.origin, "https://h/"),
        (addresses.origin, "app.example.com"),
        (addresses.origin, "https://u@h"),
        (addresses.web_address, "ftp://h"),
        (addresses.web_address, "https://u:p@h"),
    ],
)
def test_invalid_addresses_are_errors(check: object, text: str) -> None:
    assert callable(check)
    with pytest.raises(ValueError, match="^expected "):
        check(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sqlite:///sluice.db", "sqlite:////etc/sluice/sluice.db"),
        ("sqlite:////var/sluice.db", "sqlite:////var/sluice.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://u:p@h/d", "postgresql://u:p@h/d"),
    ],
)
def test_relative_stores_start_at_the_config_file(text: str, found: str) -> None:
    assert addresses.store_beside(addresses.store_address(text), Path("/etc/sluice")) == found


def test_passwords_are_found_as_written_and_decoded() -> None:
    assert addresses.passwords("postgresql://u:p%40ss@h/d") == ("p%40ss", "p@ss")
    assert addresses.passwords("redis://h") == addresses.passwords("memory") == ()
