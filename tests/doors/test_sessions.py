"""A session is what the admin token has signed, until it ends; nothing else is."""

import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.doors.sessions import Sessions
from proxy.errors import SluiceError

TOKEN = "the-admin-token"
SESSIONS = Sessions(TOKEN)


def cookie(sessions: Sessions = SESSIONS) -> str:
    return sessions.opened(sessions.admin_token, secure=False).decode().partition(";")[0]


def signed(ends: str, token: str = TOKEN) -> str:
    return (
        f"sluice_admin={ends}." + hmac.new(token.encode(), f"sluice_admin.{ends}".encode(), hashlib.sha256).hexdigest()
    )


def valid(text: str, sessions: Sessions = SESSIONS) -> bool:
    return sessions.valid([(b"cookie", text.encode("latin-1"))])


def test_the_token_opens_a_session_that_no_script_and_no_other_site_can_use() -> None:
    line = SESSIONS.opened(TOKEN, secure=True).decode()
    attributes = line.split("; ")[1:]
    assert set(attributes) == {"Path=/admin", "Max-Age=43200", "HttpOnly", "SameSite=Strict", "Secure"}
    assert "Secure" not in SESSIONS.opened(TOKEN, secure=False).decode()
    assert TOKEN not in line
    assert valid(cookie())
    assert valid(f"other=1; {cookie()}; more=2")


@pytest.mark.parametrize("shown", ["", "wrong", TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "ä"])
def test_another_token_opens_none(shown: str) -> None:
    with pytest.raises(SluiceError, match="invalid_api_key"):
        SESSIONS.opened(shown, secure=True)


def test_without_a_token_there_are_no_sessions() -> None:
    nobody = Sessions("")
    with pytest.raises(SluiceError):
        nobody.opened("", secure=True)
    assert not valid(signed(str(int(time.time()) + 100), ""), nobody)


def test_it_ends() -> None:
    assert valid(signed(str(int(time.time()) + 100)))
    assert not valid(signed(str(int(time.time()) - 1)))
    assert not valid(signed("0"))


def test_another_token_ends_every_session() -> None:
    assert not valid(cookie(), Sessions("another"))


FORGED = [
    "sluice_admin=", "sluice_admin=.", "sluice_admin=9999999999", "sluice_admin=9999999999.", "sluice_admin", "", ";;;", "=",
    'sluice_admin="', "sluice_admin=\xff.\xff", "sluice_admin=\u00b2.x", "sluice_admin=9999999999." + "0" * 64,
    "sluice_admin=" + "9" * 5000 + ".x",
]  # fmt: skip


@pytest.mark.parametrize("text", FORGED)
def test_what_is_made_up_is_none(text: str) -> None:
    assert not valid(text)


@pytest.mark.parametrize("ends", ["-1", "+9999999999", "9999999999 ", "٩٩٩٩٩٩٩٩٩٩", "1e12", "", "9999999999.0"])
def test_even_signed_only_a_plain_number_is_an_end(ends: str) -> None:
    text = signed(ends)
    assert not SESSIONS.valid([(b"cookie", text.encode())])


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_byte_of_it_can_be_another(at: int, change: int) -> None:
    good = cookie().encode()
    position = len(b"sluice_admin=") + at % (len(good) - len(b"sluice_admin="))
    forged = bytearray(good)
    forged[position] ^= change
    if bytes(forged) != good:
        assert not SESSIONS.valid([(b"cookie", bytes(forged))])


@given(st.binary(max_size=60))
def test_no_cookie_whatever_breaks_it(text: bytes) -> None:
    assert not SESSIONS.valid([(b"cookie", text)])
    assert not SESSIONS.valid([(b"cookie", b"sluice_admin=" + text)])


def test_a_closed_session_is_taken_from_the_browser() -> None:
    assert SESSIONS.closed().startswith(b"sluice_admin=; Path=/admin; Max-Age=0")
    assert not SESSIONS.valid([])


@pytest.mark.parametrize("others", ["nameless; ", "a=b; ; =; ", 'x="', "\\x; "])
def test_cookies_of_others_do_not_end_a_session(others: str) -> None:
    sessions = Sessions("token")
    cookie = sessions.opened("token", secure=False).partition(b";")[0]
    assert sessions.valid([(b"cookie", others.rstrip("; ").encode() + b"; " + cookie)])
