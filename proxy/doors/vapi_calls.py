"""Vapi's custom-LLM requests as chat calls: what Vapi adds for itself is taken off, and goes no further.

Besides OpenAI's fields a request holds the call, phone number, customer, metadata and, in Vapi's mode "destructured",
any key of the assistant's metadata; secrets of the telephone provider can be among them. So what passes is listed here
(docs.vapi.ai, "Custom LLM"; the chat fields are those of OpenAI's API).
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from proxy.call import Headers
from proxy.doors.reshaping import Member, items, joined_list, joined_object, members

_FIELDS: Final = frozenset(
    "messages stream_options max_completion_tokens max_tokens temperature top_p n stop presence_penalty "
    "frequency_penalty logit_bias logprobs top_logprobs seed user safety_identifier response_format tools tool_choice "
    "parallel_tool_calls functions function_call reasoning_effort verbosity service_tier store modalities audio "
    "prediction prompt_cache_key prompt_cache_options prompt_cache_retention web_search_options".split()
)  # all but `metadata`, which is Vapi's here; `model` and `stream` are looked at one by one
_OF_ITEMS: Final = {
    "messages": frozenset("role content name tool_calls tool_call_id refusal function_call".split()),
    "tools": frozenset("type function custom".split()),  # not Vapi's: the tool's server, messages meanwhile
}


def session_of(fields: Mapping[str, Any]) -> str | None:
    """The id of the telephone call, which all of its turns share."""
    call = fields.get("call")
    if not isinstance(call, dict):
        return None
    found = call.get("id") or call.get("callId")
    return found if isinstance(found, str) else None


def chat_body(body: bytes, fields: Mapping[str, Any], model: str | None) -> bytes:
    """The chat-completions body in a request of Vapi's; `fields` is the same, parsed.

    `model` is used where Vapi names none. A stream is asked for unless `stream` says otherwise.
    """
    found = [_without_vapis_fields(member) for member in members(body) if _passes(member[0], fields)]
    if not fields.get("model") and model:
        found.insert(0, ("model", orjson.dumps(model)))
    if fields.get("stream") is None:
        found.append(("stream", b"true"))
    return joined_object(found)


def _passes(name: str, fields: Mapping[str, Any]) -> bool:
    if name.lower() == "model":  # in any case, since reading the model refuses other spellings
        return bool(fields.get(name))
    if name == "stream":
        return fields[name] is not None
    return name in _FIELDS


def _without_vapis_fields(member: Member) -> Member:
    """Messages and tools without Vapi's own fields, such as times."""
    name, value = member
    kept = _OF_ITEMS.get(name)
    if kept is None or not value.startswith(b"["):
        return member
    return name, joined_list([_stripped(item, kept) for item in items(value)])


def _stripped(item: bytes, kept: frozenset[str]) -> bytes:
    if not item.startswith(b"{"):
        return item
    return joined_object([member for member in members(item) if member[0] in kept])


def without_vapis(headers: Headers) -> Headers:
    """The request's header lines without those that are between Vapi and us."""
    return [line for line in headers if not line[0].startswith(b"x-vapi-")]
