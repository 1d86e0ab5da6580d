"""Orders to translate, and translated streams to look at."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from hypothesis import strategies as st

from proxy.call import Headers
from proxy.providers.contract import Model, Order, Provider, Reader, Target
from proxy.providers.reading import NO_JSON
from proxy.sse import DONE, events, payload

Json = dict[str, Any]
PIXEL = "iVBORw0KGgo="
ASK = [{"role": "user", "content": "Hi"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def target(provider: Provider, key: str = "", **options: Any) -> Target:
    """A target of this provider, at its usual address."""
    return Target("up", "m", provider, provider.base_url, key, options=options)


def order(
    provider: Provider,
    fields: Mapping[str, Any],
    endpoint: str = "chat/completions",
    *,
    at: Target | None = None,
    headers: Headers | None = None,
    limits: Model | None = None,
    need: int = 0,
) -> Order:
    """An order with these fields, streamed where they say so."""
    body = orjson.dumps({"model": "m", **({"messages": ASK} if endpoint == "chat/completions" else {}), **fields})
    stream = fields.get("stream") is True
    return Order(endpoint, body, stream, headers or [], at or target(provider), limits, need)


def sent(provider: Provider, fields: Mapping[str, Any], endpoint: str = "chat/completions", **more: Any) -> Json:
    """The upstream's body for these fields."""
    body: Json = orjson.loads(provider.request(order(provider, fields, endpoint, **more)).body)
    return body


def changes(provider: Provider, fields: Mapping[str, Any], **more: Any) -> tuple[str, ...]:
    """What the translation of these fields had to change."""
    return provider.request(order(provider, fields, **more)).changes


def read(reader: Reader, pieces: Iterable[bytes]) -> bytes:
    """Everything a reader makes of these pieces."""
    return b"".join([*(reader.feed(piece) for piece in pieces), reader.finish()])


def chunks(stream: bytes) -> list[Json]:
    """The JSON events of a stream, as whoever watches it lets them pass; that [DONE] is its end is checked."""
    found = list(events(stream))
    assert all(event != DONE for event in found[:-1])
    return [orjson.loads(payload(event) or b"") for event in found if event not in (DONE, NO_JSON)]


def steady(stream: bytes) -> list[Json]:
    """The same without what is made anew for each reader."""
    return [{name: value for name, value in chunk.items() if name not in ("id", "created")} for chunk in chunks(stream)]


def message_of(stream: bytes) -> Json:
    """What a client puts together from a stream: text, thoughts, calls, finish and usage."""
    found: Json = {"content": "", "thoughts": "", "calls": [], "finish": None, "usage": None}
    for chunk in chunks(stream):
        found["usage"] = chunk.get("usage") or found["usage"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            found["content"] += delta.get("content") or ""
            found["thoughts"] += delta.get("reasoning") or delta.get("reasoning_content") or ""
            found["finish"] = choice["finish_reason"] or found["finish"]
            for call in delta.get("tool_calls", ()):
                if call["index"] == len(found["calls"]):
                    found["calls"].append([call["id"], call["function"]["name"], ""])
                found["calls"][call["index"]][2] += call["function"]["arguments"]
    return found


words = st.text(st.characters(codec="utf-8"), max_size=12)
said = words.map(lambda word: f"w{word}w")  # neither empty nor ending in blanks, which Anthropic refuses
objects = st.dictionaries(words, st.one_of(words, st.integers(-9, 9), st.booleans(), st.none()), max_size=3)
user_parts = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, said),
    st.just({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}),
)
users = st.builds(
    lambda content: {"role": "user", "content": content}, said | st.lists(user_parts, min_size=1, max_size=3)
)
systems = st.builds(
    lambda role, content: {"role": role, "content": content}, st.sampled_from(["system", "developer"]), said
)
answers = st.builds(lambda content: {"role": "assistant", "content": content}, said)


@st.composite
def tool_turns(draw: st.DrawFn) -> list[Json]:
    """An assistant's calls and their results."""
    calls, results = [], []
    for _ in range(draw(st.integers(1, 3))):
        id = "call_" + draw(st.uuids()).hex
        arguments = orjson.dumps(draw(objects)).decode()
        calls.append({"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}})
        results.append({"role": "tool", "tool_call_id": id, "content": draw(said)})
    text = draw(st.none() | said)
    return [{"role": "assistant", "content": text, "tool_calls": calls}, *results]


conversations = st.lists(
    st.one_of(users.map(lambda m: [m]), systems.map(lambda m: [m]), answers.map(lambda m: [m]), tool_turns()),
    max_size=6,
).map(lambda turns: [{"role": "user", "content": "w"}, *(message for turn in turns for message in turn)])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
field_names = st.sampled_from(
    "messages tools tool_choice stop max_tokens temperature reasoning reasoning_effort response_format options user "
    "thinking output_config n logprobs modalities prompt input encoding_format parallel_tool_calls service_tier".split()
)
roles = st.sampled_from(["system", "user", "assistant", "tool", "x"])
odd_messages = st.lists(
    st.fixed_dictionaries(
        {"role": roles},
        optional={
            "content": json_values
            | st.lists(
                st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "file", "x"])}), max_size=2
            ),
            "tool_calls": json_values | st.lists(st.fixed_dictionaries({"id": json_values, "function": json_values})),
            "tool_call_id": json_values,
            "thinking_blocks": json_values | st.lists(st.fixed_dictionaries({"type": json_values})),
            "reasoning": json_values,
        },
    ),
    max_size=3,
)
odd_fields = st.dictionaries(field_names, json_values, max_size=4) | st.builds(
    lambda messages, more: {**more, "messages": messages},
    odd_messages,
    st.dictionaries(field_names, json_values, max_size=2),
)
"""Bodies of any shape: each is translated or refused, never a crash."""
