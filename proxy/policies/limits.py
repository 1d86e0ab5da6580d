"""Whether a call fits a model: its size in tokens against the model's limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.errors import SluiceError
from proxy.providers.contract import Model
from proxy.shapes import list_of

Counter = Callable[[str], int]
"""Counts the tokens of a text exactly, for one model."""

_CHARACTERS_PER_TOKEN: Final = 4.0  # for English prose; code and other languages have fewer
_SURELY: Final = 2.0  # an estimate must exceed a limit by this factor to refuse a call
_PER_MESSAGE: Final = 4  # tokens for role and separators of a message
_PER_IMAGE: Final = 800


@dataclass(frozen=True, slots=True)
class Need:
    """The size of a call. `counted`: by the model's own tokenizer; else estimated."""

    prompt: int  # tokens
    answer: int | None  # max_tokens of the client; None: not set
    counted: bool
    images: int = 0
    tools: bool = False
    more: int = 0  # further tokens possible where the prompt is not in Latin script

    @property
    def total(self) -> int:
        """Prompt and answer together, estimated generously."""
        return self.prompt + self.more + (self.answer or 0)


def need_of(fields: Mapping[str, Any], count: Counter | None = None) -> Need:
    """The size of a call with this body; `count`: the model's tokenizer, if available."""
    texts = list(_texts(fields))
    messages = fields.get("messages")
    overhead = _PER_MESSAGE * len(messages) if isinstance(messages, list) else 0
    images = sum(1 for text in texts if text is None)
    spoken = [text for text in texts if text is not None]
    more = 0
    if count is not None:
        prompt = sum(count(text) for text in spoken)
    else:
        prompt = round(sum(len(text) for text in spoken) / _CHARACTERS_PER_TOKEN)
        more = round(sum(map(_surplus, spoken)) / _CHARACTERS_PER_TOKEN)
    tools = bool(fields.get("tools") or fields.get("functions")) and fields.get("tool_choice") != "none"
    return Need(prompt + overhead + images * _PER_IMAGE, _asked(fields), count is not None, images, tools, more)


def misfit(need: Need, model: Model) -> SluiceError | None:
    """Why the call cannot be sent to this model, naming both numbers; None: it fits, as far as is known."""
    if need.images and model.inputs is not None and "image" not in model.inputs:
        return _cannot(f"The model {model.id} does not accept images.", "messages")
    if need.tools and model.tools is False:
        return _cannot(f"The model {model.id} cannot call tools.", "tools")
    most = model.output or model.context
    if need.answer is not None and most is not None and need.answer > most:
        kind = "an output limit" if model.output else "a context"
        return _too_much(
            f"max_tokens is {need.answer}, but the model {model.id} has {kind} of {most} tokens.", "max_tokens"
        )
    if model.context is None:
        return None
    sure = need.prompt if need.counted else round(need.prompt / _SURELY)
    if sure > model.context:
        about = "" if need.counted else "about "
        return _too_much(
            f"The prompt has {about}{need.prompt} tokens, but the model {model.id} has a context of"
            f" {model.context} tokens.",
            "messages",
        )
    if need.counted and need.total > model.context:
        return _too_much(
            f"The prompt has {need.prompt} tokens and max_tokens asks for {need.answer} more, but the model"
            f" {model.id} has a context of {model.context} tokens.",
            "messages",
        )
    return None


def _cannot(message: str, param: str) -> SluiceError:
    return SluiceError("client_invalid_request", message, param=param, again="next")


def _too_much(message: str, param: str) -> SluiceError:
    return SluiceError("context_length_exceeded", message, param=param, again="next")


def _surplus(text: str) -> int:
    """Bytes of a text beyond one per character: non-Latin scripts take about that many more tokens."""
    return 0 if text.isascii() else len(text.encode(errors="replace")) - len(text)


def _asked(fields: Mapping[str, Any]) -> int | None:
    for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = fields.get(key)
        if isinstance(value, float) and value.is_integer():
            return int(value)  # 1e30, or an integer beyond 64 bits, which is parsed as a float
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _texts(fields: Mapping[str, Any]) -> list[str | None]:
    """Every text of the prompt; None stands for an image."""
    found: list[str | None] = []
    for message in list_of(fields.get("messages")):
        if isinstance(message, dict):
            found += _of_content(message.get("content"))
            for call in list_of(message.get("tool_calls")):
                function = call.get("function") if isinstance(call, dict) else None
                if isinstance(function, dict):
                    found += [str(function.get("name", "")), str(function.get("arguments", ""))]
    for key in ("prompt", "input", "instructions"):
        found += _of_content(fields.get(key))
    if tools := fields.get("tools"):
        found.append(str(tools))
    return found


def _of_content(content: Any) -> list[str | None]:
    if isinstance(content, str):
        return [content]
    found: list[str | None] = []
    for part in list_of(content):
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str):
                found.append(part["text"])
            elif part.get("type") in ("image_url", "image", "input_image"):
                found.append(None)
            elif "content" in part:
                found += _of_content(part["content"])
    return found
