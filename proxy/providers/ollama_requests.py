"""Translates OpenAI's requests to Ollama's native ones (ollama/ollama, api/types.go, and its own /v1 in openai.go)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from proxy.providers.contract import Order
from proxy.providers.messages import (
    HANDLED,
    Data,
    Fields,
    cannot,
    fields_of,
    ignored_in_message,
    ignored_members,
    image,
    leftover,
    mapping,
    messages,
    number,
    part_text,
    parts,
    plain,
    refuse,
    schema_of,
    strings,
    text,
    tool_calls,
    tools,
)

DEFAULT_WINDOW: Final = 4096  # tokens: Ollama's default num_ctx on machines below 24 GiB of VRAM

ANSWER: Final = 1024  # tokens reserved for an answer without max_tokens

OPTIONS: Final[Mapping[str, tuple[str, Callable[[object, str], object]]]] = {
    "max_tokens": ("num_predict", number),
    "max_completion_tokens": ("num_predict", number),
    "stop": ("stop", strings),
    "repetition_penalty": ("repeat_penalty", number),
    "temperature": ("temperature", number),
    "top_p": ("top_p", number),
    "seed": ("seed", number),
    "frequency_penalty": ("frequency_penalty", number),
    "presence_penalty": ("presence_penalty", number),
    "top_k": ("top_k", number),
    "min_p": ("min_p", number),
    "typical_p": ("typical_p", number),
    "repeat_penalty": ("repeat_penalty", number),
    "repeat_last_n": ("repeat_last_n", number),
    "num_predict": ("num_predict", number),
    "num_keep": ("num_keep", number),
    "num_ctx": ("num_ctx", number),
}
"""OpenAI's parameter -> Ollama's, inside `options`. Only what the client sent: a Modelfile's values stay in force."""

NATIVE: Final = frozenset({"keep_alive", "think", "format", "truncate", "shift", "logprobs", "top_logprobs"})
"""Passed on unchanged; `truncate` and `shift` are otherwise set so that nothing is cut off silently."""

THINK: Final[Mapping[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}


_TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    "assistant": ("refusal", "tool_calls", "reasoning", "reasoning_content"),
    "tool": ("tool_call_id", "name"),
}
"""Role -> the fields of its messages that are translated besides the content."""


class Translation:
    """The translation of one request: the body, and the list of changes."""

    def __init__(self, order: Order) -> None:
        self.fields = fields_of(order)
        self.order = order
        self.options: Fields = {}
        self.changes: list[str] = []
        self.body: Fields = {"model": order.target.model, "stream": order.stream, "truncate": False}

    def chat(self) -> Fields:
        """The body of /api/chat."""
        said = list(translate_messages(self.fields, self.changes))
        if not said:  # Ollama would load the model, and call that an answer
            raise refuse("messages", "messages must contain at least one message.")
        self.body |= {"messages": said, "shift": False}
        self._parameters({"tools": self._tools, "tool_choice": self._tool_choice})
        return self._closed()

    def generate(self) -> Fields:
        """The body of /api/generate, for legacy completions."""
        prompts = strings(self.fields.get("prompt", ""), "prompt")
        if len(prompts) != 1:
            raise cannot("prompt", "This upstream accepts only one prompt at a time.")
        if not prompts[0]:  # Ollama would load the model, and call that an answer
            raise cannot("prompt", "This upstream does not accept an empty prompt.")
        self.body |= {"prompt": prompts[0], "shift": False}
        self._parameters({"prompt": _ignore, "suffix": self._native, "logprobs": _no_logprobs})
        return self._closed()

    def embed(self) -> Fields:
        """The body of /api/embed; without `truncate: false` it would embed only the beginning of a long text."""
        given = self.fields.get("input")
        if isinstance(given, list) and any(not isinstance(item, str) for item in given):
            raise cannot("input", "This upstream accepts only text for embeddings, not tokens.")
        del self.body["stream"]
        self.body["input"] = strings(given, "input")
        self._parameters({"input": _ignore, "encoding_format": _encoding, "dimensions": self._native})
        return self._closed(answer=0)

    def _parameters(self, own: Mapping[str, Callable[[str, Any], None]]) -> None:
        rules = {
            "options": _ignore,
            "response_format": self._format,
            "reasoning_effort": self._effort,
            "reasoning": self._reasoning,
            **own,
        }
        if self.fields.get("max_completion_tokens") is not None:
            rules["max_tokens"] = self._drop  # the newer name wins
        for name, value in self.fields.items():
            if value is None or name in HANDLED:
                continue
            if name in rules:
                rules[name](name, value)
            elif name in OPTIONS:
                theirs, transform = OPTIONS[name]
                self.options[theirs] = transform(value, name)
            elif name in NATIVE:
                self._native(name, value)
            else:
                self.changes += leftover(name, value)
        if self.fields.get("tool_choice") == "none":
            self.body.pop("tools", None)

    def _closed(self, answer: int = ANSWER) -> Fields:
        """The body with its options: the client's own `options` win, then its parameters, then those computed here."""
        self.options |= mapping(self.fields.get("options") or {}, "options")
        need = self.order.need + (0 if "num_predict" in self.options else answer)
        if "num_ctx" not in self.options and (window := window_for(self.order, need)):
            self.options["num_ctx"] = window
            self.changes.append("set num_ctx")
        if (kept := self.order.target.options.get("keep_alive")) is not None:
            self.body.setdefault("keep_alive", kept)
        return self.body | {"options": self.options} if self.options else self.body

    def _native(self, name: str, value: Any) -> None:
        self.body[name] = value

    def _drop(self, name: str, value: Any) -> None:
        self.changes.append(f"drop {name}")

    def _reasoning(self, name: str, value: Any) -> None:
        self.changes += ignored_members(mapping(value, name), ("effort",), "reasoning.")
        if (effort := value.get("effort")) is not None:
            self._effort("reasoning.effort", effort)

    def _effort(self, name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in THINK:
            raise refuse(name, f"{name} must be one of {', '.join(THINK)}.")
        if THINK[value] and "thinking" not in known(self.order).get("capabilities", ("thinking",)):
            self._drop(name, value)  # a 400 for models that do not support it
        else:
            self.body.setdefault("think", THINK[value])

    def _format(self, name: str, value: Any) -> None:
        kind = mapping(value, name).get("type")
        if kind not in ("text", "json_object", "json_schema"):
            raise refuse(name, "response_format.type must be text, json_object or json_schema.")
        if kind != "text":
            self.body.setdefault("format", "json" if kind == "json_object" else schema_of(value))

    def _tools(self, name: str, value: Any) -> None:
        self.body["tools"] = []
        for function, tool in tools(value):
            self.body["tools"].append({"type": "function", "function": function})
            self.changes += ignored_members(tool, ("type", "function"))

    def _tool_choice(self, name: str, value: Any) -> None:
        if value not in ("auto", "none"):
            raise cannot(name, "Ollama cannot force a tool call: tool_choice may be auto or none.")
        self.changes.append("drop tool_choice")
        if value == "none" and self.fields.get("tools"):
            self.changes.append("drop tools")


def window_for(order: Order, need: int) -> int:
    """`num_ctx` for this order in tokens; 0 if the default window suffices for the `need`.

    A power of two, since Ollama reloads the model for each other value. Never more than the model supports, and never
    less than the upstream's configured `num_ctx`, or else the model's own.
    """
    usual = int(order.target.options.get("num_ctx") or 0)
    there = usual or known(order).get("num_ctx", 0)
    if need <= (there or DEFAULT_WINDOW):
        return usual
    step = 1 << (need - 1).bit_length()
    most = order.limits.context if order.limits and order.limits.context else step
    return max(there, min(step, most))


def known(order: Order) -> Mapping[str, Any]:
    """What the catalogue says of the model besides its limits: `capabilities`, `num_ctx` of its Modelfile."""
    return (order.limits.extra if order.limits else None) or {}


def translate_messages(fields: Fields, changes: list[str]) -> Iterator[Fields]:
    """Each message in Ollama's form: text as one string, images beside it, tool results with the name of their tool."""
    names: dict[str, str] = {}
    for place, message in messages(fields):
        role = message.get("role")
        changes += ignored_in_message(message, place, _TAKEN.get(str(role), ()))
        if role in ("system", "developer"):
            yield {"role": "system", "content": plain(message, place)}
        elif role == "user":
            yield _user(message, place)
        elif role == "assistant":
            yield _assistant(message, place, names)
        elif role == "tool":
            yield _tool(message, place, names)
        else:
            raise cannot(
                f"{place}.role", "This upstream accepts the roles system, developer, user, assistant and tool."
            )


def _user(message: Fields, place: str) -> Fields:
    content = message.get("content")
    if isinstance(content, str):
        return {"role": "user", "content": content}
    texts, images = [], []
    for there, part in parts(message, place):
        if (said := part_text(part, there)) is not None:
            texts.append(said)
            continue
        if part.get("type") != "image_url":
            raise cannot(there, f"Ollama accepts text and images, not {part.get('type')!r}.")
        shown = image(part, there)
        if not isinstance(shown, Data):
            raise cannot(
                f"{there}.image_url", "Ollama accepts images as base64 data: URLs only; the proxy fetches nothing."
            )
        images.append(shown.base64)
    return {"role": "user", "content": "\n".join(texts)} | ({"images": images} if images else {})


def _assistant(message: Fields, place: str, names: dict[str, str]) -> Fields:
    found: Fields = {"role": "assistant", "content": plain(message, place)}
    for field in ("reasoning", "reasoning_content"):
        if isinstance(thought := message.get(field), str) and thought:
            found["thinking"] = thought
            break
    calls = []
    for call in tool_calls(message, place):
        names[call.id] = call.name
        function = {"name": call.name, "arguments": call.arguments}
        calls.append(({"id": call.id} if call.id else {}) | {"function": function})
    return found | ({"tool_calls": calls} if calls else {})


def _tool(message: Fields, place: str, names: dict[str, str]) -> Fields:
    found: Fields = {"role": "tool", "content": plain(message, place)}
    id = text(message.get("tool_call_id") or "", f"{place}.tool_call_id")
    if name := text(message.get("name") or names.get(id, ""), f"{place}.name"):
        found["tool_name"] = name
    return found | ({"tool_call_id": id} if id else {})


def _ignore(name: str, value: Any) -> None:
    """Handled elsewhere."""


def _encoding(name: str, value: Any) -> None:
    if value not in ("float", "base64"):
        raise refuse(name, "encoding_format must be float or base64.")


def _no_logprobs(name: str, value: Any) -> None:
    raise cannot(name, "This upstream returns log probabilities for chat completions only.")
