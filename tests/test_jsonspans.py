"""Members of JSON texts of every spelling are found where a parser reads them."""

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import jsonedit
from proxy.errors import SluiceError
from proxy.jsonspans import Path, children, find, model_span, model_spans
from tests.jsontexts import ABSENT, bodies, dotted, got, paths


@given(bodies, paths)
def test_find_gives_the_span_that_a_parser_reads(body: bytes, names: tuple[str, ...]) -> None:
    wanted = got(orjson.loads(body), names)
    span = find(body, Path.of(dotted(names)))
    assert (span is None) == (wanted is ABSENT)
    if span:
        assert orjson.loads(body[slice(*span)]) == wanted
        assert body[slice(*span)].strip() == body[slice(*span)]


@given(bodies)
def test_children_are_what_a_container_holds(body: bytes) -> None:
    at = body.index(b"{")
    found = children(body, at)
    parsed = {
        orjson.loads(body[child.key : child.key_end]): orjson.loads(body[child.start : child.end]) for child in found
    }
    assert parsed == orjson.loads(body)
    assert children(body, at, 2) == found[:2]


@given(bodies, st.sampled_from(['"m"', '"a\\"b"', '"\\u00e9"']), st.booleans())
def test_model_span_is_that_of_the_top_level_model(body: bytes, name: str, first: bool) -> None:
    rest = jsonedit.compile_remove("model")(body).strip()
    inner = rest[1:-1].strip()
    own = b'"model" :\n' + name.encode()
    whole = b"{" + b",".join(part for part in ((own, inner) if first else (inner, own)) if part) + b"}"
    start, end = model_span(whole, orjson.loads(whole))
    assert whole[start:end] == name.encode()
    assert re.search(rb'"model" :\n$', whole[:start])


@pytest.mark.parametrize(
    "body",
    [
        r'{"model":"a","model":"b"}',
        r'{"model":"a","mod\u0065l":"b"}',
        r'{"mod\u0065l":"a","\u006dodel":"b"}',
        r'{"Model":"b","model":"a"}',
        r'{"model":"a","MOD\u0045L":"b"}',
        r'{"model":5}',
        r'{"Model":"a"}',
        r'{"x":{"model":"a"}}',
    ],
)
def test_a_second_model_however_spelled_is_refused(body: str) -> None:
    with pytest.raises(SluiceError) as caught:
        model_span(body.encode(), orjson.loads(body))
    assert (caught.value.code, caught.value.param) == ("client_invalid_request", "model")


@pytest.mark.parametrize(
    "body",
    [
        r'{"mod\u0065l":"a"}',
        r'{"x":{"model":"b"},"model":"a"}',
        r'{"role":"model","model":"a"}',
        r'{"say \"model":"b","model":"a"}',
        r'{"x":"caf\u0065 \u00e9","model":"a"}',
        r' {"models":["b"], "model" : "a"}',
    ],
)
def test_one_model_is_found_however_spelled(body: str) -> None:
    start, end = model_span(body.encode(), orjson.loads(body))
    assert body.encode()[start:end] == b'"a"'


def test_every_model_of_a_text_is_found() -> None:
    body = rb'{"model":"a","x":{"model":"b"},"mod\u0065l":"c"}'
    assert [body[slice(*span)] for span in model_spans(body)] == [b'"a"', b'"c"']
