"""JSON texts of every spelling, edited by span and compared with the same edit on what a parser reads."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import jsonedit
from tests.jsontexts import ABSENT, bodies, child, dotted, got, paths, texts, values


def model_put(value: Any, names: tuple[str, ...], new: Any) -> bool:
    """The same edit on a parsed value, in place; whether there was a place for it."""
    *parents, last = names
    for at, name in enumerate(parents):
        inner = child(value, name)
        if inner is ABSENT and isinstance(value, dict):
            for missing in reversed(names[at + 1 :]):
                new = {missing: new}
            value[name] = new
            return True
        value = inner
    if isinstance(value, dict):
        value[last] = new
    elif child(value, last) is not ABSENT:
        value[int(last)] = new
    else:
        return False
    return True


def model_remove(value: Any, names: tuple[str, ...]) -> None:
    holder = got(value, names[:-1])
    if child(holder, names[-1]) is not ABSENT:
        del holder[names[-1] if isinstance(holder, dict) else int(names[-1])]


@given(bodies, paths, values)
def test_set_and_default_do_what_they_do_to_the_parsed_text(body: bytes, names: tuple[str, ...], value: Any) -> None:
    wanted = orjson.loads(body)
    present = got(wanted, names) is not ABSENT
    defaulted = jsonedit.compile_default(dotted(names), value)
    if present:
        assert orjson.loads(defaulted(body)) == wanted
    model_put(wanted, names, value)
    setting = jsonedit.compile_set(dotted(names), value)
    edited = setting(body)
    assert orjson.loads(edited) == wanted
    assert setting(edited) is edited
    if not present:
        assert orjson.loads(defaulted(body)) == wanted
    again = defaulted(body)
    assert defaulted(again) is again


@given(bodies, paths)
def test_remove_does_what_it_does_to_the_parsed_text(body: bytes, names: tuple[str, ...]) -> None:
    wanted = orjson.loads(body)
    there = got(wanted, names) is not ABSENT
    model_remove(wanted, names)
    edited = jsonedit.compile_remove(dotted(names))(body)
    assert orjson.loads(edited) == wanted
    if there:
        assert len(edited) < len(body)


@given(bodies, paths, paths)
def test_rename_does_what_it_does_to_the_parsed_text(body: bytes, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    if all(left == right for left, right in zip(old, new, strict=False)):
        with pytest.raises(ValueError, match="within"):
            jsonedit.compile_rename(dotted(old), dotted(new))
        return
    wanted = orjson.loads(body)
    value = got(wanted, old)
    if value is not ABSENT and (got(wanted, new) is not ABSENT or model_put(wanted, new, value)):
        model_remove(wanted, old)
    rename = jsonedit.compile_rename(dotted(old), dotted(new))
    edited = rename(body)
    assert orjson.loads(edited) == wanted


members = st.lists(texts(3, False), min_size=1, max_size=6)


@given(members, st.data())
def test_what_no_edit_names_keeps_its_bytes(values: list[str], data: st.DataObject) -> None:
    lines = [f' "k{at}"\t: {value}' for at, value in enumerate(values)]
    body = ("{" + " ,\n".join(lines) + "\n}").encode()
    at = data.draw(st.integers(0, len(lines) - 1))
    name = f"k{at}"
    kept = [*lines[:at], *lines[at + 1 :]]
    removed = jsonedit.compile_remove(name)(body)
    assert all(line.strip().encode() in removed for line in kept)
    assert orjson.loads(removed) == {key: value for key, value in orjson.loads(body).items() if key != name}
    head, tail = (" ,\n".join(part) for part in (lines[:at], lines[at + 1 :]))
    separators = ("{" + head + (" ,\n" if at else ""), (" ,\n" if tail else "") + tail + "\n}")
    changed = f' "{name}"\t: "NEW"'
    assert jsonedit.compile_set(name, "NEW")(body).decode() == changed.join(separators)
    renamed = lines[at].replace(f'"{name}"', '"new"', 1)
    assert jsonedit.compile_rename(name, "new")(body).decode() == renamed.join(separators)
    assert jsonedit.compile_set("new", 1)(body) == b'{"new":1,' + body[1:]
    assert jsonedit.compile_default(name, 1)(body) is body
    assert jsonedit.compile_remove("none")(body) is body


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ('{"a":1}', "a", "{}"),
        ('{ "a" : 1 }', "a", "{  }"),
        ('{"a":1, "b":2}', "a", '{"b":2}'),
        ('{"a":1, "b":2}', "b", '{"a":1}'),
        ('{"a":1 ,\n "b":2\n}', "b", '{"a":1\n}'),
        ('{"b":1,"a":2,"b":3}', "b", '{"a":2}'),
        ('{"a":1,"b":2,"b":3}', "b", '{"a":1}'),
        (r'{"\u0062":1,"a":2,"b":3}', "b", '{"a":2}'),
        ('{"l":[1, 2, 3]}', "l.1", '{"l":[1, 3]}'),
        ('{"l":[1, 2, 3]}', "l.2", '{"l":[1, 2]}'),
        ('{"l":[1]}', "l.0", '{"l":[]}'),
        (r'{"l":[1, 2, 3],"\u0061":1}', "l.0", r'{"l":[2, 3],"\u0061":1}'),
        (r'{"l":[1, 2, 3],"\u0061":1}', "l.2", r'{"l":[1, 2],"\u0061":1}'),
        ('{"l":{"0":1}}', "l.0", '{"l":{}}'),
        ('{"a":{"b":1},"a":{"b":2,"c":3}}', "a.b", '{"a":{},"a":{"c":3}}'),
        ('{"a.b":1,"a":{"b":2}}', r"a\.b", '{"a":{"b":2}}'),
        ('{"s":"\\"a\\":1","a":2}', "a", '{"s":"\\"a\\":1"}'),
        ('{"s":"\\\\","a":2}', "a", '{"s":"\\\\"}'),
    ],
)
def test_removing_takes_the_right_comma(before: str, path: str, after: str) -> None:
    assert jsonedit.compile_remove(path)(before.encode()).decode() == after


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("{}", "a", '{"a":9}'),
        ("{ }", "a", '{"a":9 }'),
        ('{"a":null}', "a", '{"a":9}'),
        ('{"a":null}', "a.b", '{"a":null}'),
        ('{"b":1}', "a.c.d", '{"a":{"c":{"d":9}},"b":1}'),
        ('{"a":{}}', "a.c.d", '{"a":{"c":{"d":9}}}'),
        ('{"a":[{"b":1}]}', "a.0.b", '{"a":[{"b":9}]}'),
        ('{"a":[]}', "a.0.b", '{"a":[]}'),
        ('{"a":[1]}', "a.b", '{"a":[1]}'),
        ('{"a":1,"a":2}', "a", '{"a":9,"a":9}'),
        (r'{"\u0061":1}', "a", r'{"\u0061":9}'),
    ],
)
def test_setting_makes_parents_and_stops_at_what_is_no_object(before: str, path: str, after: str) -> None:
    assert jsonedit.compile_set(path, 9)(before.encode()).decode() == after


def test_default_takes_an_explicit_null_as_sent() -> None:
    body = b'{"temperature": null}'
    assert jsonedit.compile_default("temperature", 1)(body) is body


def test_rename_onto_a_key_that_is_there_keeps_that_key() -> None:
    rename = jsonedit.compile_rename("max_tokens", "max_completion_tokens")
    assert rename(b'{"max_tokens":1, "max_completion_tokens":2}') == b'{"max_completion_tokens":2}'
    assert rename(b'{"max_tokens": 1.0}') == b'{"max_completion_tokens": 1.0}'


def test_edits_see_what_the_ones_before_left() -> None:
    edits = (jsonedit.compile_rename("a", "b"), jsonedit.compile_default("b", 2), jsonedit.compile_set("c", 3))
    assert jsonedit.edit(b'{"a":1}', edits) == b'{"c":3,"b":1}'


@pytest.mark.parametrize("depth", [1, 9, 10, 11, 12, 25, 900])
def test_nesting_is_skipped_however_deep(depth: int) -> None:
    deep = "[" * depth + '"]"' + "]" * depth
    body = f'{{"deep":{deep},"x":{{"deep2":{deep}}},"a":1}}'.encode()
    assert jsonedit.compile_remove("a")(body) == body.replace(b',"a":1', b"")
    assert jsonedit.compile_set("x.b", 1)(body) == body.replace(b'{"deep2"', b'{"b":1,"deep2"')


def test_many_doubled_keys_cost_no_more_than_as_many_others() -> None:
    body = b"{" + b'"a":1,' * 50_000 + b'"b":2}'
    assert jsonedit.compile_remove("a")(body) == b'{"b":2}'
