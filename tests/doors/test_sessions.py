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


def signature(of: str, token: str = TOKEN) -> str:
    return hmac.new(token.encode(), f"sluice_admin.{of}".encode(), hashlib.sha256).hexdigest()


NAME = f"sluice_admin_{signature('')[:8]}"


def signed(ends: str, token: str = TOKEN) -> str:
    return f"{NAME}={ends}.{signature(ends, token)}"


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


def test_a_session_expires() -> None:
    assert valid(signed(str(int(time.time()) + 100)))
    assert not valid(signed(str(int(time.time()) - 1)))
    assert not valid(signed("0"))


def test_another_token_ends_every_session() -> None:
    assert not valid(cookie(), Sessions("another"))


def test_gateways_on_one_host_do_not_end_each_others_sessions() -> None:
    another = Sessions("another")
    name, other = cookie().partition("=")[0], cookie(another).partition("=")[0]
    assert name != other  # a browser keeps one of each name, whatever the port
    both = f"{cookie()}; {cookie(another)}"
    assert valid(both) and valid(both, another)
    assert [line.partition(b"=")[0] for line in SESSIONS.closed([(b"cookie", both.encode())])] == [name.encode()]


def test_a_login_by_http_has_another_name_than_one_by_https_which_browsers_would_not_let_it_replace() -> None:
    by_https = SESSIONS.opened(TOKEN, secure=True).decode().partition(";")[0]
    assert by_https.partition("=")[0] != cookie().partition("=")[0]
    assert valid(by_https) and valid(f"{NAME}=old.one; {by_https}")


FORGED = [
    f"{NAME}=", f"{NAME}=.", f"{NAME}=9999999999", f"{NAME}=9999999999.", NAME, "", ";;;", "=",
    f'{NAME}="', f"{NAME}=\xff.\xff", f"{NAME}=\u00b2.x", f"{NAME}=9999999999." + "0" * 64,
    f"{NAME}=" + "9" * 5000 + ".x", cookie().replace(NAME, "sluice_admin"),
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
    position = len(NAME) + 1 + at % (len(good) - len(NAME) - 1)
    forged = bytearray(good)
    forged[position] ^= change
    if bytes(forged) != good:
        assert not SESSIONS.valid([(b"cookie", bytes(forged))])


@given(st.binary(max_size=60))
def test_no_cookie_whatever_breaks_it(text: bytes) -> None:
    assert not SESSIONS.valid([(b"cookie", text)])
    assert not SESSIONS.valid([(b"cookie", NAME.encode() + b"=" + text)])


def test_a_closed_session_is_taken_from_the_browser() -> None:
    both = f"{cookie()}; {SESSIONS.opened(TOKEN, secure=True).decode().partition(';')[0]}"
    lines = SESSIONS.closed([(b"cookie", both.encode())])
    assert [line.partition(b"; Max-Age=0")[0] for line in lines] == [
        f"{name}=; Path=/admin".encode() for name in (NAME, f"{NAME}_https")
    ]
    assert not SESSIONS.valid([])


@pytest.mark.parametrize("text", ["", f"{NAME}=", signed("0"), signed("9999999999", "another")])
def test_who_has_no_session_learns_nothing_of_the_token_by_logging_out(text: str) -> None:
    assert SESSIONS.closed([(b"cookie", text.encode())]) == []


@pytest.mark.parametrize("others", ["nameless; ", "a=b; ; =; ", 'x="', "\\x; "])
def test_cookies_of_others_do_not_end_a_session(others: str) -> None:
    sessions = Sessions("token")
    cookie = sessions.opened("token", secure=False).partition(b";")[0]
    assert sessions.valid([(b"cookie", others.rstrip("; ").encode() + b"; " + cookie)])
