"""Authentication of Vapi: by secret, or by a signature that is valid, recent and unused."""

import hmac
from base64 import b64encode
from dataclasses import replace

import pytest

from proxy.call import Headers
from proxy.doors.vapi_signing import Replays, Scheme, Signing, is_fresh, shows_secret
from proxy.errors import SluiceError

NOW = 1_790_000_000.0
BODY = b'{"message": {"type":"hang"}}'
SCHEME = Scheme("X-Vapi-Signature", "X-Vapi-Timestamp", "sha256", "")


def signed(stamp: str | None = "1790000000", body: bytes = BODY, hash: str = "sha256", prefix: str = "") -> Headers:
    payload = body if stamp is None else stamp.encode() + b"." + body
    digest = hmac.new(b"the secret", payload, hash).hexdigest()
    lines = [(b"x-vapi-signature", (prefix + digest).encode())]
    return lines if stamp is None else [*lines, (b"x-vapi-timestamp", stamp.encode())]


def taken(headers: Headers, signing: Signing | None = None, body: bytes = BODY, now: float = NOW) -> bool:
    try:
        (signing or Signing("the secret", SCHEME)).check(headers, body, now)
    except SluiceError as refused:
        assert refused.code == "invalid_api_key"
        return False
    return True


def test_what_was_signed_with_the_secret_is_taken() -> None:
    assert taken(signed())
    assert taken(signed("1790000000123")), "milliseconds"
    assert taken([(b"x-vapi-signature", signed()[0][1].upper()), signed()[1]])


def test_a_signature_in_base64_is_the_same_signature() -> None:
    line, stamp = signed()
    other = (line[0], b64encode(bytes.fromhex(line[1].decode())))
    signing = Signing("the secret", SCHEME)
    assert taken([other, stamp], signing)
    assert not taken([line, stamp], signing), "a replay"
    assert not taken([(other[0], other[1].swapcase()), stamp])


@pytest.mark.parametrize("hash", ["sha256", "sha512", "sha1"])
def test_hash_prefix_and_header_names_are_the_operators_choice(hash: str) -> None:
    scheme = Scheme("x-vapi-signature", None, hash, "hash=")  # type: ignore[arg-type]
    assert taken(signed(None, hash=hash, prefix="hash="), Signing("the secret", scheme))
    assert not taken(signed(None, hash=hash), Signing("the secret", scheme)), "without its prefix"
    assert not taken(signed(None, hash="md5", prefix="hash="), Signing("the secret", scheme))


@pytest.mark.parametrize(
    "headers",
    [
        signed(body=b"{}"),
        signed()[:1],
        signed()[1:],
        [],
        [signed()[0], (b"x-vapi-timestamp", b"1790000001")],
        [(b"x-vapi-signature", b""), signed()[1]],
        [(b"x-vapi-signature", "é".encode("latin-1") * 64), signed()[1]],
        signed("1789999699"),
        signed("1790000301"),
        signed("1790000000.0"),
        signed("-1790000000"),
        signed("soon"),
        signed(""),
        signed("9" * 30),
    ],
)
def test_anything_else_is_refused(headers: Headers) -> None:
    assert not taken(headers)


def test_another_secret_signs_otherwise() -> None:
    assert not taken(signed(), Signing("another", SCHEME))


def test_a_webhook_is_taken_once() -> None:
    signing = Signing("the secret", SCHEME)
    assert taken(signed(), signing)
    assert not taken(signed(), signing)
    assert not taken(signed(), replace(signing, scheme=SCHEME)), "memory outlives a reload"
    assert not taken([(b"x-vapi-signature", signed()[0][1].upper()), signed()[1]], signing), "spelled otherwise"
    assert taken(signed("1790000001"), signing)
    bare = Signing("the secret", Scheme("x-vapi-signature", None, "sha256"))
    assert taken(signed(None), bare) and not taken(signed(None), bare)


def test_a_wrong_signature_is_not_remembered() -> None:
    signing = Signing("the secret", SCHEME)
    assert not taken([signed()[0], (b"x-vapi-timestamp", b"1")], signing)
    assert taken(signed(), signing)


def test_memory_ends_with_freshness_and_is_bounded() -> None:
    replays = Replays()
    assert replays.first(b"a", NOW) and not replays.first(b"a", NOW + 599)
    assert replays.first(b"a", NOW + 601)
    for number in range(70_000):
        replays.first(b"%d" % number, NOW + 602)
    assert not replays.first(b"69999", NOW + 602) and replays.first(b"0", NOW + 602)


@pytest.mark.parametrize(
    ("stamp", "fresh"),
    [(b"1790000300", True), (b"1790000300000", True), (b"1789999700", True), (b"1790000301", False), (b"", False)],
)
def test_five_minutes_either_way(stamp: bytes, fresh: bool) -> None:
    assert is_fresh(stamp, NOW) is fresh


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ([(b"authorization", b"Bearer the secret")], True),
        ([(b"x-vapi-secret", b"the secret")], True),
        ([(b"authorization", b"Bearer other"), (b"x-vapi-secret", b"the secret")], True),
        ([(b"authorization", b"the secret")], False),
        ([(b"authorization", b"Basic the secret")], False),
        ([(b"x-vapi-secret", b"the secre")], False),
        ([], False),
    ],
)
def test_the_secret_is_shown_in_one_of_two_headers(headers: Headers, shown: bool) -> None:
    assert shows_secret(headers, "the secret") is shown
    assert not shows_secret(headers, ""), "no secret opens nothing"


def test_the_secret_is_not_in_its_repr() -> None:
    assert "the secret" not in repr(Signing("the secret", SCHEME))
