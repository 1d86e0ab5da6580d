"""Every rule of a route with its receipt, and answers and streams whose other bytes stay as they came."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policies.rewriting import (
    HeaderChanges,
    RequestRewrite,
    RequestRules,
    ResponseRewrite,
    ResponseRules,
    SystemText,
    ask_usage,
)
from proxy.sse import DONE, events, payload

CHUNK = (
    b'data: {"id": "c1", "model":"gpt-4o-2024", "system_fingerprint":"fp_1", "provider":"X",'
    b'"choices":[{"index":0,"delta":{"content":"\\"model\\":\\"gpt\\""},"logprobs":null}], "n":1.0E2}\n\n'
)
USAGE = b'data: {"model":"gpt-4o-2024","choices":[],"usage":{"total_tokens":3,"cost":0.10}}\n\n'


def applied(body: bytes, rewrite: RequestRewrite, endpoint: str = "chat/completions") -> tuple[bytes, tuple[str, ...]]:
    edited, _, changes = RequestRules.of(rewrite).apply(body, orjson.loads(body), [], endpoint)
    return edited, changes


def chat(*messages: Any) -> bytes:
    return orjson.dumps({"model": "m", "messages": list(messages)})


@pytest.mark.parametrize(
    ("rewrite", "before", "after", "changes"),
    [
        (RequestRewrite(rename={"a": "b"}), '{"a": 1.0}', '{"b": 1.0}', ("rename a->b",)),
        (RequestRewrite(rename={"a": "b"}), '{"a":1,"b":2}', '{"b":2}', ("rename a->b",)),
        (RequestRewrite(rename={"a": "b"}), '{"c":1}', '{"c":1}', ()),
        (RequestRewrite(default={"t": 0.7}), '{"m":1}', '{"t":0.7,"m":1}', ("default t",)),
        (RequestRewrite(default={"t": 0.7}), '{"t":null}', '{"t":null}', ()),
        (RequestRewrite(set={"p.sort": "x"}), '{"p":{}}', '{"p":{"sort":"x"}}', ("set p.sort",)),
        (RequestRewrite(set={"t": 1}), '{"t":1}', '{"t":1}', ()),
        (RequestRewrite(set={"t": 1}), '{"t": null}', '{"t": 1}', ("set t",)),
        (RequestRewrite(remove=("z", "y")), '{"z":1,"m":2}', '{"m":2}', ("remove z",)),
        (
            RequestRewrite(rename={"a": "b"}, default={"b": 1, "c": 2}, set={"c": 3}, remove=("b",)),
            '{"a":0}',
            '{"c":3}',
            ("rename a->b", "default c", "set c", "remove b"),
        ),
    ],
)
def test_rules_apply_in_order_and_only_real_changes_are_listed(
    rewrite: RequestRewrite, before: str, after: str, changes: tuple[str, ...]
) -> None:
    edited, listed = applied(before.encode(), rewrite)
    assert (edited.decode(), listed) == (after, changes)


def test_nothing_to_do_gives_back_the_same_objects() -> None:
    body, headers = b'{"temperature": 1}', [(b"x-project", b"fast")]
    rules = RequestRules.of(
        RequestRewrite(
            default={"temperature": 0}, remove=("metadata",), headers=HeaderChanges({"X-Project": "fast"}, ("x-gone",))
        )
    )
    edited, kept, changes = rules.apply(body, orjson.loads(body), headers)
    assert edited is body
    assert kept is headers
    assert changes == ()
    assert not rules.is_identity
    assert RequestRules.of(RequestRewrite()).is_identity


SYSTEM = {"role": "system", "content": 'Be "brief".'}
USER = {"role": "user", "content": "Hi"}
PARTS = [{"type": "text", "text": "a"}]


@pytest.mark.parametrize(
    ("how", "messages", "wanted"),
    [
        ("prepend", [SYSTEM, USER], 'T\n\nBe "brief".'),
        ("append", [SYSTEM, USER], 'Be "brief".\n\nT'),
        ("replace", [SYSTEM, USER], "T"),
        ("prepend", [{"role": "developer", "content": "d"}], "T\n\nd"),
        ("append", [{"role": "system", "content": ""}], "T"),
        ("append", [{"role": "system", "content": None}], "T"),
        ("append", [{"role": "system"}], "T"),
        ("prepend", [{"role": "system", "content": PARTS}], [{"type": "text", "text": "T"}, *PARTS]),
        ("append", [{"role": "system", "content": PARTS}], [*PARTS, {"type": "text", "text": "T"}]),
        ("append", [{"role": "system", "content": []}], [{"type": "text", "text": "T"}]),
        ("replace", [{"role": "system", "content": PARTS}], "T"),
    ],
)
def test_system_text_joins_the_first_system_message(how: str, messages: list[Any], wanted: Any) -> None:
    edited, changes = applied(chat(*messages), RequestRewrite(system=SystemText(**{how: "T"})))
    assert orjson.loads(edited)["messages"] == [{**messages[0], "content": wanted}, *messages[1:]]
    assert changes == (f"system {how}",)


@pytest.mark.parametrize("how", ["prepend", "append", "replace"])
@pytest.mark.parametrize("messages", [[USER], [], ["odd", USER]])
def test_where_there_is_no_system_message_one_is_put_first(how: str, messages: list[Any]) -> None:
    edited, _ = applied(chat(*messages), RequestRewrite(system=SystemText(**{how: "T"})))
    assert orjson.loads(edited)["messages"] == [{"role": "system", "content": "T"}, *messages]


def test_a_later_system_message_is_the_one_and_other_bytes_stay() -> None:
    body = b'{"messages" : [ {"role":"user", "n":1.00} , {"content": "caf\\u00e9", "role" : "system"}, 7 ]}'
    edited, _ = applied(body, RequestRewrite(system=SystemText(append="T")))
    assert edited == body.replace(b"caf\\u00e9", b"caf\\u00e9\\n\\nT")


def test_no_system_text_of_the_client_is_left_beside_what_replaces_it() -> None:
    developer = {"role": "developer", "content": PARTS}
    for messages in (
        [SYSTEM, USER, SYSTEM, developer],
        [SYSTEM, developer, USER],
        [SYSTEM | {"content": "T"}, USER, SYSTEM],
    ):
        edited, changes = applied(chat(*messages), RequestRewrite(system=SystemText(replace="T")))
        assert orjson.loads(edited)["messages"] == [{"role": "system", "content": "T"}, USER]
        assert changes == ("system replace",)


def test_system_sees_the_messages_that_other_rules_left() -> None:
    rewrite = RequestRewrite(rename={"prompts": "messages"}, system=SystemText(prepend="T"))
    edited, changes = applied(b'{"prompts":[{"role":"system","content":"s"}]}', rewrite)
    assert edited == b'{"messages":[{"role":"system","content":"T\\n\\ns"}]}'
    assert changes == ("rename prompts->messages", "system prepend")


def test_replacing_by_the_same_system_text_is_no_change() -> None:
    body = chat({"role": "system", "content": "T"})
    assert applied(body, RequestRewrite(system=SystemText(replace="T"))) == (body, ())


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        ({"prompt": "p"}, "completions"),
        ({"input": "p"}, "embeddings"),
        ({"input": "p", "instructions": "slowly"}, "audio/speech"),
        ({"messages": "odd"}, "chat/completions"),
    ],
)
def test_system_leaves_bodies_without_messages_alone(body: dict[str, Any], endpoint: str) -> None:
    raw = orjson.dumps(body)
    assert applied(raw, RequestRewrite(system=SystemText(prepend="T")), endpoint) == (raw, ())


@pytest.mark.parametrize(
    ("body", "wanted"),
    [({"instructions": "i"}, "T\n\ni"), ({"instructions": None}, "T"), ({"input": "p"}, "T")],
)
def test_system_text_of_a_responses_call_goes_to_instructions(body: dict[str, Any], wanted: str) -> None:
    edited, _ = applied(orjson.dumps(body), RequestRewrite(system=SystemText(prepend="T")), "responses")
    assert orjson.loads(edited) == {**body, "instructions": wanted}


def test_headers_are_set_and_removed_with_receipts() -> None:
    rules = RequestRules.of(RequestRewrite(headers=HeaderChanges({"X-Project": "fast"}, ("X-Stainless-OS",))))
    headers = [(b"x-project", b"1"), (b"a", b"b"), (b"x-project", b"fast"), (b"x-stainless-os", b"L")]
    body, edited, changes = rules.apply(b"{}", {}, headers)
    assert edited == [(b"a", b"b"), (b"x-project", b"fast")]
    assert changes == ("header set x-project", "header remove x-stainless-os")
    assert len(headers) == 4


@pytest.mark.parametrize("value", ["a\r\nb: c", "\0", "\u20ac"])
def test_a_header_that_http_cannot_hold_is_refused_at_load(value: str) -> None:
    with pytest.raises(ValueError, match="line breaks|latin-1"):
        RequestRules.of(RequestRewrite(headers=HeaderChanges({"x": value})))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"m":1}', '{"stream_options":{"include_usage":true},"m":1}'),
        (' {"m":1}', ' {"stream_options":{"include_usage":true},"m":1}'),
        ("{}", '{"stream_options":{"include_usage":true}}'),
        ('{"stream_options": null}', '{"stream_options": {"include_usage":true}}'),
        ('{"stream_options":{"x":1}}', '{"stream_options":{"include_usage":true,"x":1}}'),
        ('{"stream_options":{"include_usage":false}}', '{"stream_options":{"include_usage":true}}'),
        ('{"stream_options":{"include_usage": true}}', '{"stream_options":{"include_usage": true}}'),
        ('{"stream_options":"odd"}', '{"stream_options":"odd"}'),
    ],
)
def test_usage_is_asked_where_the_client_did_not(before: str, after: str) -> None:
    assert ask_usage(before.encode(), orjson.loads(before)).decode() == after


def rules(**rewrite: Any) -> ResponseRules:
    return ResponseRules.of(ResponseRewrite(**rewrite))


def test_events_are_edited_and_all_else_stays() -> None:
    batch = b": ping\n\n" + CHUNK + b"data: rubbish\n\n" + b"data: [1]\n\n" + USAGE + DONE
    edited = rules(
        set={"service": "sluice"}, remove=("provider", "choices.0.logprobs", "usage.cost"), model="asked"
    ).events(batch, "fast/8b")
    wanted = batch.replace(b'"provider":"X",', b"").replace(b',"logprobs":null', b"").replace(b',"cost":0.10', b"")
    wanted = wanted.replace(b'"model":"gpt-4o-2024"', b'"model":"fast/8b"').replace(
        b"data: {", b'data: {"service":"sluice",'
    )
    assert edited == wanted


@pytest.mark.parametrize(
    "event",
    [
        b": ping\n\n",
        DONE,
        b"data: {broken\n\n",
        b'data: {"model":"x"\n\n',
        b'data: "model"\n\n',
        b"data:\n\n",
        b"event: model\n\n",
        b'data: {"choices":[{"model":"x"}]}\n\n',
        b'data: {"model":null}\n\n',
    ],
)
def test_what_no_rule_matches_passes_byte_for_byte(event: bytes) -> None:
    assert rules(remove=("provider",), model="asked").events(event, "a") == event


def test_a_model_within_a_nested_object_is_not_the_answers() -> None:
    event = b'data: {"x":{"model":"up"},"model" : "up","y":[{"model":"up"}]}\n\n'
    assert rules(model="asked").events(event, "a") == event.replace(b'"model" : "up"', b'"model" : "a"')


def test_a_doubled_model_is_exchanged_twice() -> None:
    assert rules(model="asked").whole(rb'{"model":"u","mod\u0065l":"v"}', "a") == rb'{"model":"a","mod\u0065l":"a"}'


def test_events_of_the_responses_api_have_the_model_further_in() -> None:
    event = b'event: response.created\ndata: {"type":"response.created","response":{"model":"up","n":1.0}}\n\n'
    assert rules(model="asked").events(event, "a") == event.replace(b'"up"', b'"a"')


def test_a_model_that_a_rule_removes_stays_away() -> None:
    assert (
        rules(remove=("model",), model="asked").whole(b'{"model":"u","x":{"model":"v"}}', "a") == b'{"x":{"model":"v"}}'
    )


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("opening", [b"", b"\xef\xbb\xbf"])
def test_lines_other_than_data_keep_their_place(end: bytes, opening: bytes) -> None:
    lines = [b'data: {"model":"up"}', b"id: 7", b"", b""]
    edited = rules(model="asked").events(opening + end.join(lines), "fast")
    assert edited == opening + end.join([b'data: {"model":"fast"}', *lines[1:]])
    lines = [b"id: 7", b'data: {"a":1,', b": note", b'data:"model":"up"}', b"data", b"retry: 5", b"", b""]
    edited = rules(model="asked").events(opening + end.join(lines), "fast")
    assert edited.startswith(opening + b"id: 7" + end + b"data: ")
    assert edited.endswith(end + b": note" + end + b"retry: 5" + end + end)
    data = payload(edited)
    assert data
    assert orjson.loads(data) == {"a": 1, "model": "fast"}


@pytest.mark.parametrize("body", [b"", b"\x00\xffRIFF", b"[1]", b'"model"', b"<html>", b'{"model":"x"'])
def test_a_whole_answer_that_is_no_json_object_passes(body: bytes) -> None:
    assert rules(set={"service": "s"}, remove=("a",), model="asked").whole(body, "a") is body


def test_a_whole_answer_keeps_every_other_byte() -> None:
    body = b'{ "id":"x", "model" : "up" , "big":12345678901234567890.10, "provider":"p" }'
    edited = rules(set={"service": "s"}, remove=("provider",), model="asked").whole(body, 'fast/"8b"')
    assert edited == b'{"service":"s", "id":"x", "model" : "fast/\\"8b\\"" , "big":12345678901234567890.10 }'


def test_rules_that_change_nothing_are_identity() -> None:
    assert rules().is_identity
    assert not rules(model="asked").is_identity
    assert not rules(remove=("a",)).is_identity


pieces = st.sampled_from([CHUNK, USAGE, DONE, b": ping\n\n", b"data: {\n\n", CHUNK.replace(b"\n", b"\r\n")])


@given(st.lists(pieces, max_size=6))
def test_a_batch_is_edited_as_its_single_events_are(batch: list[bytes]) -> None:
    rule = rules(remove=("provider",), model="asked")
    whole = b"".join(batch)
    edited = rule.events(whole, "a")
    assert edited == b"".join(rule.events(event, "a") for event in events(whole))
    assert rule.events(edited, "a") == edited
    assert edited.count(b"gpt-4o-2024") == 0
