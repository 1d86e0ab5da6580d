"""A call is refused only where it surely does not fit, whatever is in its body."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policies.limits import misfit, need_of
from proxy.providers.contract import Model


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def by_word(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (chat({"role": "user", "content": "one two"}), 6),
        (chat({"content": [{"type": "text", "text": "one"}, {"type": "image_url", "image_url": {"url": "x"}}]}), 805),
        (chat({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "a b"}}]}), 7),
        ({"prompt": "one two three"}, 3),
        ({"prompt": ["one", "two three"]}, 3),
        ({"input": "one two", "instructions": "three"}, 3),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "one"}]}]}, 1),
        ({"messages": 7, "prompt": {"a": 1}, "input": None}, 0),
        (chat(7, None, "x", {"content": 7}, {"tool_calls": [7, {"function": 7}]}), 20),
    ],
)
def test_everything_that_a_model_reads_is_counted(fields: dict[str, Any], words: int) -> None:
    need = need_of(fields, by_word)
    assert (need.prompt, need.counted) == (words, True)


def test_without_a_tokenizer_it_is_an_estimate() -> None:
    need = need_of(chat({"content": "x" * 400}))
    assert (need.prompt, need.counted) == (104, False)


def test_other_scripts_may_take_more_and_are_not_refused_for_it() -> None:
    need = need_of(chat({"content": "中" * 400}, max_tokens=10))
    assert (need.prompt, need.total) == (104, 314)
    assert misfit(need, Model("m", context=60)) is None
    assert need_of(chat({"content": "中 中"}), by_word).total == 6
    assert need_of({"prompt": "\ud800"}).total == 0


@pytest.mark.parametrize(
    ("fields", "answer"),
    [({"max_tokens": 7}, 7), ({"max_completion_tokens": 8, "max_tokens": 7}, 8), ({"max_output_tokens": 9}, 9), ({}, None),
     ({"max_tokens": True}, None), ({"max_tokens": "7"}, None), ({"max_tokens": None}, None), ({"max_tokens": 1.5}, None), ({"max_tokens": 1e30}, int(1e30))],
)  # fmt: skip
def test_what_it_may_answer_is_what_the_client_said(fields: dict[str, Any], answer: int | None) -> None:
    assert need_of(fields).answer == answer


@pytest.mark.parametrize(
    ("words", "answer", "model", "numbers"),
    [
        (10, 100, Model("m", context=110), None),
        (10, 101, Model("m", context=110), ("10", "101", "110")),
        (111, None, Model("m", context=110), ("111", "110")),
        (110, None, Model("m", context=110), None),
        (1, 65, Model("m", context=1000, output=64), ("65", "64")),
        (1, 64, Model("m", context=1000, output=64), None),
        (1, 1001, Model("m", context=1000), ("1001", "1000")),
        (10**9, 10**9, Model("m"), None),
    ],
)
def test_a_counted_call_is_held_to_the_token(
    words: int, answer: int | None, model: Model, numbers: tuple[str, ...] | None
) -> None:
    problem = misfit(need_of({"prompt": "x", "max_tokens": answer}, lambda text: words), model)
    if numbers is None:
        assert problem is None
    else:
        assert problem is not None
        assert (problem.code, problem.status, problem.again) == ("context_length_exceeded", 400, "next")
        assert all(number in problem.message for number in numbers)


def test_a_close_estimate_is_let_through_and_a_clear_one_is_not() -> None:
    model = Model("m", context=100)
    assert misfit(need_of({"prompt": "x" * 4 * 199}), model) is None
    assert misfit(need_of({"prompt": "x" * 4 * 210}), model) is not None
    assert misfit(need_of({"prompt": "x" * 4 * 60, "max_tokens": 90}), model) is None


@pytest.mark.parametrize(("asked", "refused"), [("tools", True), ("functions", True), ("tool_choice", False)])
def test_a_model_that_cannot_call_tools_is_not_offered_any(asked: str, refused: bool) -> None:
    need = need_of({"prompt": "x", asked: [{"name": "f"}]})
    assert (misfit(need, Model("m", tools=False)) is not None) is refused
    assert misfit(need_of({asked: [{"name": "f"}], "tool_choice": "none"}), Model("m", tools=False)) is None
    assert misfit(need, Model("m")) is None and misfit(need, Model("m", tools=True)) is None


DEEP = [b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 900 + b"]" * 900]


@pytest.mark.parametrize("deep", DEEP)
@pytest.mark.parametrize(
    "body",
    [b'{"tools":%s}', b'{"messages":[{"content":%s}]}', b'{"prompt":%s}',
     b'{"messages":[{"tool_calls":[{"function":{"name":"f","arguments":%s}}]}]}'],
)  # fmt: skip
def test_no_depth_of_nesting_is_a_failure_of_ours(body: bytes, deep: bytes) -> None:
    need_of(orjson.loads(body % deep))


def test_content_within_content_is_followed_and_does_not_break() -> None:
    deep = b'{"content":[' * 450 + b'{"text":"one"}' + b"]}" * 450
    assert need_of(orjson.loads(b'{"input":[' + deep + b"]}"), by_word).prompt >= 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from("messages content text type tools prompt input function tool_calls".split()), inner
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from("messages prompt input tools max_tokens instructions".split()), JSON))
def test_no_body_breaks_it(fields: dict[str, Any]) -> None:
    misfit(need_of(fields), Model("m", context=1))
