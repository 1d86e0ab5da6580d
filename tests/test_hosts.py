"""What is this machine and what is not decides who may come in."""

import pytest

from proxy.hosts import is_loopback, url_host

LOCAL = ("127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "localhost.", "::1")
ELSEWHERE = ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "", "2130706433", "0x7f.1")


@pytest.mark.parametrize(("host", "local"), [*((host, True) for host in LOCAL), *((host, False) for host in ELSEWHERE)])
def test_loopback_hosts_are_recognized(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("host", "written"), [("::1", "[::1]"), ("127.0.0.1", "127.0.0.1"), ("localhost", "localhost")]
)
def test_only_ipv6_addresses_stand_in_brackets(host: str, written: str) -> None:
    assert url_host(host) == written
