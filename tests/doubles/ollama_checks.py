"""What Ollama's server refuses before a model runs, with its texts (Go's JSON binding, routes.go)."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

OPTIONS: dict[str, type] = {
    "num_ctx": int,
    "num_batch": int,
    "num_gpu": int,
    "main_gpu": int,
    "use_mmap": bool,
    "num_thread": int,
    "num_predict": int,
    "num_keep": int,
    "seed": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "typical_p": float,
    "repeat_last_n": int,
    "repeat_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "stop": list,
}
FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "messages": (list,),
    "tools": (list,),
    "format": (str, dict),
    "options": (dict,),
    "stream": (bool,),
    "think": (bool, str),
    "keep_alive": (str, int, float),
    "truncate": (bool,),
    "shift": (bool,),
    "logprobs": (bool,),
    "top_logprobs": (int,),
}
GO_NAMES: dict[type, str] = {str: "string", dict: "object", list: "array", bool: "bool", int: "number", float: "number"}


def _unbound(value: object, where: str, wanted: str) -> str:
    return f"json: cannot unmarshal {GO_NAMES[type(value)]} into Go struct field {where} of type {wanted}"


def binding(body: Mapping[str, Any]) -> str:
    """The text of a 400 where the request does not fit Ollama's types; "" where it does."""
    for name, value in body.items():
        if name in FIELDS and value is not None and type(value) not in FIELDS[name]:
            return _unbound(value, f"ChatRequest.{name}", GO_NAMES[FIELDS[name][0]])
    return next(filter(None, map(_message, body.get("messages") or ())), "")


def _message(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        return _unbound(content, "Message.messages.content", "string")
    for call in message.get("tool_calls") or ():
        arguments = call["function"].get("arguments", {})
        if not isinstance(arguments, dict):
            where = "ToolCallFunction.messages.tool_calls.function.arguments"
            return _unbound(arguments, where, "api.ToolCallFunctionArguments")
    for image in message.get("images") or ():
        try:
            base64.b64decode(image, validate=True)
        except binascii.Error:
            return "illegal base64 data at input byte 4"
    return ""


def option(options: Mapping[str, Any]) -> str:
    """The text of the error for an option of a wrong type; "" where there is none."""
    for name, value in options.items():
        wanted = OPTIONS.get(name)
        if wanted is None or value is None:
            continue
        good = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
        if not good or (isinstance(value, bool) and wanted is not bool):
            go = {int: "integer", float: "float32", bool: "bool", list: "array"}[wanted]
            return f'option "{name}" must be of type {go}'
    return ""
