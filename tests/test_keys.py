"""A key made by operators is validated before it is stored, is accepted until its expiry, and is shown only once."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.keys import PREFIX, Key, Keys, changed_key, new_key, shown_time
from proxy.policies.allowances import Limits

SOON = (datetime.now(UTC) + timedelta(days=1)).isoformat()
WRONG_NUMBERS: list[Any] = [0, -1, "1", True, [], 2**60, 1e300]
WRONG_TIMES: list[Any] = [7, "", "soon", [], "2020-01-01", "9999-99-99", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999999Z"]  # fmt: skip
SPOILT: list[dict[str, Any]] = [{"digest": 7}, {"digest": "xy" * 32}, {"digest": "ab" * 31}, {"created": None}, {"created": "x"},
    {"expires": []}, {"requests_per_minute": "9"}, {"monthly_budget": -1}]  # fmt: skip
LIMITS = {"requests_per_minute": 60, "tokens_per_minute": 1000, "monthly_budget": 12.5}


def call(credential: str | None = None) -> Call:
    return Call("1", "openai", "chat/completions", "m", b"", {}, credential=credential)


def kept(*keys: Key) -> Keys:
    """As another process reads them."""
    found = Keys()
    found.take({key.name: key.kept for key in keys})
    return found


@pytest.mark.parametrize(
    ("fields", "param"),
    [({}, "name"), ({"name": ""}, "name"), ({"name": "a b"}, "name"), ({"name": "x" * 65}, "name"), ({"name": 7}, "name"), ({"name": "x\n"}, "name"),
     ({"name": "../x"}, "name"), ({"name": "open"}, "name"), ({"name": "vapi"}, "name"), ({"name": "sluice"}, "name"), ({"name": "key-0123456789ab"}, "name"),
     *(({"name": "t", name: value}, name) for name in LIMITS for value in WRONG_NUMBERS),
     ({"name": "t", "requests_per_minute": 1.5}, "requests_per_minute"), ({"name": "t", "monthly_budget": float("nan")}, "monthly_budget"),
     *(({"name": "t", "expires": value}, "expires") for value in WRONG_TIMES),
     ({"name": "t", "colour": 1}, "colour"), ({"name": "t", "key": "sk-own"}, "key"), ({"name": "t", "digest": "x"}, "digest")],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(SluiceError) as raised:
        new_key(fields)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert param in raised.value.message


def test_a_key_is_random_and_only_its_digest_is_kept() -> None:
    (one, secret), (_, another) = new_key({"name": "team"}), new_key({"name": "team"})
    assert secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 and secret != another
    assert secret not in one.kept and secret[len(PREFIX) : -4] not in repr(one)
    assert one.digest == hashlib.sha256(secret.encode()).hexdigest() and one.hint == f"sk-sluice-…{secret[-4:]}"


def test_it_comes_back_from_its_text() -> None:
    key, secret = new_key({"name": "team", "expires": SOON, **LIMITS})
    assert key.limits == Limits(60, 1000, 12.5)
    found = kept(key)
    assert found.made == {"team": key} and secret not in repr(found)
    asked = call()
    assert found.admit(asked, secret)
    assert asked.tenant == f"key-{key.digest[:12]}" and asked.allowance is not None and asked.allowance.key == "team"


@given(st.text() | st.text().map(lambda rest: PREFIX + rest))
def test_nothing_else_opens_the_door(shown: str) -> None:
    key, secret = new_key({"name": "team"})
    found = kept(key)
    for each in (shown, key.digest, key.hint, secret[:-1], secret + "a", secret.swapcase()):
        asked = call()
        assert not found.admit(asked, each) and asked.tenant is None


@pytest.mark.parametrize(
    "text",
    [*("", "{", "7", "[]", "null", "{}", '{"digest":"ab"}'),
     *(orjson.dumps(orjson.loads(new_key({"name": "t"})[0].kept) | each).decode() for each in SPOILT)],
)  # fmt: skip
def test_what_cannot_be_read_any_more_is_passed_over(text: str) -> None:
    key, secret = new_key({"name": "team"})
    found = Keys()
    found.take({"bad": text, "team": key.kept})
    assert list(found.made) == ["team"] and found.admit(call(), secret)


def test_a_text_of_a_later_version_is_read_as_far_as_it_is_understood() -> None:
    key, secret = new_key({"name": "team"})
    found = Keys()
    found.take({"team": orjson.dumps(orjson.loads(key.kept) | {"colour": "blue"}).decode()})
    assert found.admit(call(), secret) and "blue" in found.made["team"].kept


def test_after_its_end_it_says_so() -> None:
    key, secret = new_key({"name": "team", "expires": SOON})
    over = orjson.dumps(orjson.loads(key.kept) | {"expires": 1.0}).decode()
    found = Keys()
    found.take({"team": over})
    with pytest.raises(SluiceError, match="The API key team has expired") as raised:
        found.admit(call(), secret)
    assert (raised.value.code, raised.value.status) == ("invalid_api_key", 401)


def test_before_the_store_is_read_no_key_is_called_wrong() -> None:
    _, secret = new_key({"name": "team"})
    with pytest.raises(SluiceError) as raised:
        Keys().admit(call(), secret)
    assert (raised.value.code, raised.value.status) == ("proxy_internal", 503)
    assert not Keys().admit(call(), "sk-of-somewhere-else")


def test_limits_are_changed_one_by_one_and_null_takes_one_away() -> None:
    key, _ = new_key({"name": "team", "expires": SOON, **LIMITS})
    assert changed_key(key, {"tokens_per_minute": None}).limits == Limits(60, None, 12.5)
    other = changed_key(key, {"requests_per_minute": 5, "expires": None})
    assert (other.limits.requests_per_minute, other.expires, other.digest) == (5, None, key.digest)
    assert changed_key(key, {}) == key
    for fields in ({"name": "other"}, {"digest": "x"}, {"requests_per_minute": 0}):
        with pytest.raises(SluiceError):
            changed_key(key, fields)


def test_a_minute_goes_on_when_limits_change_or_the_store_is_read_again() -> None:
    key, secret = new_key({"name": "team", "requests_per_minute": 1})
    found = kept(key)

    def enters() -> bool:
        asked = call()
        assert found.admit(asked, secret) and asked.allowance is not None
        try:
            asked.allowance.enter(asked)
        except SluiceError:
            return False
        return True

    assert enters() and not enters()
    found.take({"team": key.kept})
    assert not enters()
    found.put(changed_key(key, {"requests_per_minute": 2}))
    assert enters() and not enters()
    found.drop("team")
    assert not found.admit(call(), secret)


def test_a_new_key_of_an_old_name_is_another_tenant() -> None:
    (one, first), (other, second) = new_key({"name": "team"}), new_key({"name": "team"})
    found, asked, again = kept(one), call(), call()
    assert found.admit(asked, first)
    found.drop("team")
    found.put(other)
    assert found.admit(again, second) and not found.admit(call(), first)
    assert asked.tenant != again.tenant


def test_times_are_shown_as_they_can_be_sent() -> None:
    key, _ = new_key({"name": "team", "expires": "2999-01-31"})
    assert shown_time(key.expires) == "2999-01-31T00:00:00Z" and shown_time(None) is None
    assert changed_key(key, {"expires": "2999-01-31T02:00:00+02:00"}).expires == key.expires
