"""What makes two calls the same, and what keeps them apart."""

import random
from typing import Any

import pytest

from proxy.caches.keys import asked, tag
from proxy.policies.rewriting import RequestRewrite, RequestRules
from tests.caches.calls import HELLO, call, choice, target

PLAIN = asked(call(), choice()).key()


@pytest.mark.parametrize(
    "fields",
    [
        dict(reversed(HELLO.items())),
        HELLO | {"stream": True},
        HELLO | {"stream": False, "stream_options": {"include_usage": True}},
        HELLO | {"model": "another name for it"},
    ],
)
def test_the_order_of_keys_and_the_form_of_the_answer_do_not_matter(fields: dict[str, Any]) -> None:
    assert asked(call(fields), choice()).key() == PLAIN


@pytest.mark.parametrize(
    "fields",
    [
        HELLO | {"temperature": 0},
        HELLO | {"messages": [{"role": "user", "content": "hello "}]},
        HELLO | {"messages": [{"role": "system", "content": "hello"}]},
        HELLO | {"x_unknown": None},
    ],
)
def test_any_other_field_does(fields: dict[str, Any]) -> None:
    assert asked(call(fields), choice()).key() != PLAIN


@pytest.mark.parametrize(
    "made",
    [
        asked(call(tenant="two"), choice()),
        asked(call(), choice(name="other-")),
        asked(call(), choice(target("gpt-4.1"))),
        asked(call(), choice(target(upstream="west"))),
        asked(call(), choice(target(base="http://elsewhere/v1"))),
        asked(call(headers=[(b"openai-beta", b"x")]), choice()),
        asked(call(headers=[(b"x-unknown", b"x")]), choice()),
    ],
)
def test_place_and_telling_headers_do(made: Any) -> None:
    assert made.key() != PLAIN


def test_headers_that_say_nothing_do_not() -> None:
    noise = [(b"user-agent", b"a"), (b"x-stainless-os", b"b"), (b"authorization", b"c"), (b"traceparent", b"d")]
    noise += [(b"host", b"e"), (b"content-length", b"9"), (b"x-sluice-cache", b"only"), (b"cookie", b"f")]
    assert asked(call(headers=noise), choice()).key() == PLAIN


def test_a_target_that_is_off_is_passed_over() -> None:
    assert asked(call(), choice(target(upstream="west", off="no key"), target())).key() == PLAIN
    assert asked(call(), choice(target(off="no key"))).key() == PLAIN


def test_the_rules_come_first() -> None:
    rules = RequestRules.of(RequestRewrite(set={"temperature": 0}, remove=("user",)))
    made = asked(call(HELLO | {"user": "a"}), choice(request=rules))
    assert made.changes == ("set temperature", "remove user") and not made.sampled
    assert made.key() == asked(call(HELLO | {"temperature": 0}), choice()).key()


def test_keys_carry_route_and_model() -> None:
    assert PLAIN is not None
    assert PLAIN[:16] == tag("gpt-") + tag("gpt-4o") and len(PLAIN) == 32


def test_parts_cannot_run_into_each_other() -> None:
    one = asked(call(tenant="a", headers=[(b"x-b", b"c")]), choice(name="r"))
    other = asked(call(tenant="a1:r", headers=[(b"x-b", b"c")]), choice(name=""))
    assert one.key() != other.key()


def test_a_body_too_deep_to_compare_has_no_key() -> None:
    deep: Any = "x"
    for _ in range(600):
        deep = [deep]
    made = call()
    made.fields = HELLO | {"deep": deep}
    assert asked(made, choice()).key() is None


@pytest.mark.parametrize(
    ("temperature", "sampled"), [(0, False), (0.0, False), (0.1, True), (1, True), (None, True), ("0", True)]
)
def test_what_is_drawn_by_chance(temperature: Any, sampled: bool) -> None:
    assert asked(call(HELLO | {"temperature": temperature}), choice()).sampled is sampled


def test_no_two_tenants_ever_meet() -> None:
    chance = random.Random(11)
    keys: dict[bytes, tuple[str, str]] = {}
    for _ in range(10_000):
        tenant, text = f"key-{chance.randrange(50)}", f"question {chance.randrange(40)}"
        key = asked(call(HELLO | {"messages": [{"role": "user", "content": text}]}, tenant=tenant), choice()).key()
        assert key is not None
        assert keys.setdefault(key, (tenant, text)) == (tenant, text)
    assert len(set(keys.values())) == len(keys)


def test_the_question_apart_from_the_rest() -> None:
    def scope(*messages: dict[str, Any], **more: Any) -> tuple[str, bytes] | None:
        found = asked(call(HELLO | {"messages": list(messages)} | more), choice()).question(100)
        return None if found is None else (found.text, found.scope)

    system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "hello"}
    plain = scope(system, user)
    assert plain is not None and plain[0] == "hello"
    assert scope(system, user | {"content": "bye"}) == ("bye", plain[1])
    assert scope(system, user | {"content": [{"type": "text", "text": "bye"}]}) == ("bye", plain[1])
    for other in (scope(user), scope(system, user, temperature=0), scope(system, user | {"name": "n"})):
        assert other is not None and other[1] != plain[1]
    assert scope() is scope(system) is scope(user | {"content": "x" * 101}) is None
    assert scope(user | {"content": [{"type": "image_url", "image_url": {"url": "data:"}}]}) is None
    assert scope(user | {"content": [{"type": "text", "text": "a", "cache_control": {}}]}) is None
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    assert (
        scope(user | {"content": [{"type": "text", "text": "a"}, image]}) is None
    )  # the image is part of the question
    assert scope(user | {"content": ["a"]}) is None
