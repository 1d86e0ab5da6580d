"""The regexes match just the parts of a JSON text, also those for Pythons whose possessive repeats are not to be had."""

import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.jsongrammar import Grammar, grammar, possessives_hold
from tests.jsontexts import bodies

PLAIN, CAREFUL = grammar(careful=False), grammar(careful=True)
GRAMMARS = [CAREFUL, *([PLAIN] if possessives_hold() else [])]
texts = st.text(st.sampled_from('\\"/ab{}[]:,\nén')) | st.text()


def test_what_is_known_to_be_sound_is_taken_for_sound() -> None:
    assert possessives_hold() or sys.version_info < (3, 11, 5)


@pytest.mark.parametrize("rules", GRAMMARS)
@given(text=texts)
def test_a_string_ends_where_a_parser_ends_it(rules: Grammar, text: str) -> None:
    member = orjson.dumps(text) + b' : "\\\\", "]": {'
    found = rules.member.match(b"," + member)
    assert found and orjson.loads(found[1]) == text and found[2] == b'"\\\\"'


@pytest.mark.parametrize("rules", GRAMMARS)
@given(body=bodies)
def test_tokens_find_the_end_of_every_container(rules: Grammar, body: bytes) -> None:
    begin = body.index(b"{")
    depth, tokens = 0, rules.token.finditer(body + b']}"}', begin)
    for token in tokens:
        depth += {None: 0, 1: 1, 2: -1}[token.lastindex]
        if not depth:
            break
    assert orjson.loads(body[begin : token.end()]) == orjson.loads(body)
    assert not body[token.end() :].strip()


@pytest.mark.parametrize("rules", GRAMMARS)
@pytest.mark.parametrize("depth", [1, 2, 9, 10, 11, 12, 500])
def test_a_container_is_taken_whole_or_not_at_all(rules: Grammar, depth: int) -> None:
    text = b"[" * depth + b'"]"' + b"]" * depth
    found = rules.item.match(b" " + text + b"]")
    assert found
    assert found.span(2) == (1, len(text) + 1) if depth <= 10 else found.span(3) == (1, 2)


@pytest.mark.parametrize("rules", GRAMMARS)
def test_more_rounds_than_a_careful_repeat_takes(rules: Grammar) -> None:
    string = orjson.dumps('"' * 6000)
    found = rules.item.match(string + b",")
    assert found and found[2] == string
    members = orjson.dumps(["a"] * 6000)
    found = rules.item.match(members)
    assert found and (found[2], found[3]) == ((None, b"[") if rules.careful else (members, None))
