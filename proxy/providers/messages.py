"""Validates OpenAI requests for providers that translate them: a wrong shape is a 400 that names its place."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import orjson

from proxy.errors import SluiceError
from proxy.providers.contract import Order
from proxy.shapes import list_of

Fields = dict[str, Any]

HANDLED: Final = frozenset({"model", "messages", "stream", "stream_options"})
MEANT: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "modalities": (["text"],),
    "audio": (),
    "functions": (),
    "function_call": ("none",),
    "web_search_options": (),
    "best_of": (1,),
    "echo": (False,),
}
"""Parameters that may only be dropped with one of these values, which have no effect."""

PART: Final = frozenset({"type", "text", "refusal", "image_url", "file"})
"""Fields of content parts that are translated."""

_NOTHING: Final[tuple[object, ...]] = (None, "", "auto", [], {})  # values without effect
_UNTELLABLE: Final = ("function_call", "audio")  # fields without which a message means something else

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,;]*)*;base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool in an assistant message, its arguments parsed."""

    id: str
    name: str
    arguments: Fields


@dataclass(frozen=True, slots=True)
class Data:
    """The content of a `data:` URL, left in base64."""

    media_type: str
    base64: str


def refuse(param: str, why: str) -> SluiceError:
    """A 400 for what no upstream could be asked."""
    return SluiceError("client_invalid_request", why, param=param)


def cannot(param: str, why: str) -> SluiceError:
    """A 400 for what this upstream cannot be asked; a later target may be able to."""
    return SluiceError("client_invalid_request", why, param=param, again="next")


def fields_of(order: Order) -> Fields:
    """The order's body as a mapping, which must not be changed."""
    if isinstance(order.fields, dict):
        return order.fields
    try:
        return mapping(orjson.loads(order.body), "body")
    except orjson.JSONDecodeError:
        raise SluiceError("client_invalid_json", "The body is not valid JSON.") from None


def written(value: object) -> bytes:
    """JSON for the upstream.

    Raises a 400 for values that can be parsed but not written: huge numbers, extreme depth.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise SluiceError(
            "client_invalid_request", "The body is nested too deeply or contains too large a number."
        ) from None


def mapping(value: object, place: str) -> Fields:
    """`value`, which must be an object."""
    if isinstance(value, dict):
        return value
    raise refuse(place, f"{place} must be an object.")


def array(value: object, place: str) -> list[Any]:
    """`value`, which must be a list."""
    if isinstance(value, list):
        return value
    raise refuse(place, f"{place} must be a list.")


def text(value: object, place: str) -> str:
    """`value`, which must be a string."""
    if isinstance(value, str):
        return value
    raise refuse(place, f"{place} must be a string.")


def number(value: object, place: str) -> float | int:
    """`value`, which must be a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise refuse(place, f"{place} must be a number.")


def strings(value: object, place: str) -> list[str]:
    """`value` as a list of strings, for OpenAI's "one or several"."""
    return [value] if isinstance(value, str) else [text(item, place) for item in array(value, place)]


def messages(fields: Fields) -> Iterator[tuple[str, Fields]]:
    """Each message with its place: "messages[0]". The refusal of an assistant counts as its content."""
    for index, item in enumerate(array(fields.get("messages"), "messages")):
        place = f"messages[{index}]"
        message = mapping(item, place)
        if message.get("role") == "assistant" and not message.get("content") and message.get("refusal"):
            message = message | {"content": message["refusal"]}
        yield place, message


def ignored_members(fields: Fields, taken: Collection[str], under: str = "") -> list[str]:
    """The changes to report for fields that are not translated; none for fields without effect."""
    return [f"drop {under}{name}" for name, value in fields.items() if name not in taken and value not in _NOTHING]


def ignored_in_message(
    message: Fields, place: str, taken: Collection[str], of_parts: Collection[str] = PART
) -> list[str]:
    """The same for a message, its parts and its calls.

    Raises a 400 for fields without which the conversation would mean something else: legacy function calls, audio
    answers.
    """
    for name in _UNTELLABLE:
        if message.get(name):
            raise cannot(f"{place}.{name}", f"This upstream does not accept {name} in a message.")
    found = ignored_members(message, {"role", "content", *taken})
    content, calls = message.get("content"), message.get("tool_calls")
    for part in filter(_is_object, list_of(content)):
        found += ignored_members(part, of_parts)
        found += ignored_members(shown, ("url",)) if _is_object(shown := part.get("image_url")) else []
    for call in filter(_is_object, list_of(calls)):
        found += ignored_members(call, ("id", "type", "function", "index"))
    return found


def _is_object(value: object) -> TypeGuard[Fields]:
    return isinstance(value, dict)


def parts(message: Fields, place: str) -> Iterator[tuple[str, Fields]]:
    """Each content part of a message with its place; plain text counts as one text part, null as none."""
    content = message.get("content")
    if content is None:
        return
    if isinstance(content, str):
        yield f"{place}.content", {"type": "text", "text": content}
        return
    for index, part in enumerate(array(content, f"{place}.content")):
        yield (there := f"{place}.content[{index}]"), mapping(part, there)


def part_text(part: Fields, place: str) -> str | None:
    """The text of a text or refusal part; None for any other part."""
    kind = part.get("type")
    return text(part.get(kind), f"{place}.{kind}") if kind in ("text", "refusal") else None


def plain(message: Fields, place: str) -> str:
    """Content that may only be text, its parts joined by newlines."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    found = []
    for there, part in parts(message, place):
        if (said := part_text(part, there)) is None:
            raise cannot(there, f"{there}: only text is allowed in a message of the role {message.get('role')!r}.")
        found.append(said)
    return "\n".join(found)


def image(part: Fields, place: str) -> Data | str:
    """The image of an `image_url` part: data, or a URL."""
    source = part.get("image_url")
    url = source.get("url") if isinstance(source, dict) else source
    return data_url(text(url, f"{place}.image_url"), f"{place}.image_url")


def data_url(url: str, place: str) -> Data | str:
    """The content of a base64 `data:` URL (RFC 2397); any other URL unchanged."""
    if url[:5].lower() != "data:":
        return url
    if not (head := _DATA_URL.match(url)):
        raise refuse(place, f"{place} must be a data: URL with a media type and base64 data.")
    return Data(head[1].lower(), url[head.end() :])


def tool_calls(message: Fields, place: str) -> Iterator[ToolCall]:
    """The calls of an assistant message.

    Arguments other than a JSON object are a 400, since upstreams accept only objects.
    """
    for index, item in enumerate(array(message.get("tool_calls") or [], f"{place}.tool_calls")):
        there = f"{place}.tool_calls[{index}]"
        call = mapping(item, there)
        function = mapping(call.get("function"), f"{there}.function")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = orjson.loads(arguments) if arguments.strip() else {}
            except orjson.JSONDecodeError:
                raise refuse(f"{there}.function.arguments", "The arguments of this tool call are not JSON.") from None
        yield ToolCall(
            text(call.get("id") or "", f"{there}.id"),
            text(function.get("name"), f"{there}.function.name"),
            mapping({} if arguments is None else arguments, f"{there}.function.arguments"),
        )


def tools(value: object) -> Iterator[tuple[Fields, Fields]]:
    """Each tool with its function. Tools of another type than `function` are a 400."""
    for index, item in enumerate(array(value, "tools")):
        tool = mapping(item, f"tools[{index}]")
        if tool.get("type", "function") != "function":
            raise cannot(f"tools[{index}].type", "This upstream accepts only tools of the type function.")
        function = mapping(tool.get("function"), f"tools[{index}].function")
        text(function.get("name"), f"tools[{index}].function.name")
        yield function, tool


def schema_of(response_format: Fields) -> Fields:
    """The JSON schema of a `response_format` of the type `json_schema`."""
    described = mapping(response_format.get("json_schema"), "response_format.json_schema")
    return mapping(described.get("schema"), "response_format.json_schema.schema")


def leftover(name: str, value: object, meant: Mapping[str, tuple[object, ...]] = MEANT) -> list[str]:
    """The change to report for an unsupported parameter, none if it had no effect.

    Raises a 400 if the answer would mean something else without it.
    """
    if name not in meant:
        return [f"drop {name}"]
    if value in meant[name]:
        return []
    raise cannot(name, f"This upstream does not support this value of {name}.")
