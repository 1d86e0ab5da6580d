"""Translates OpenAI's parameters to Anthropic's (anthropic SDK 0.125.0, types/message_create_params.py)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.providers.anthropic_messages import Conversation, converse
from proxy.providers.contract import Order
from proxy.providers.messages import (
    HANDLED,
    MEANT,
    Fields,
    cannot,
    fields_of,
    ignored_members,
    leftover,
    mapping,
    number,
    refuse,
    schema_of,
    strings,
    text,
    tools,
)

DEFAULT_MAX_TOKENS: Final = 4096  # the field is required; sent where the model's own limit is unknown
LEAST_BUDGET: Final = 1024  # smallest thinking budget in tokens

BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32768}
"""`reasoning_effort` -> tokens for thinking, for models that take a budget."""
EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
"""`reasoning_effort` -> `output_config.effort`, for models that think adaptively."""
LEVELS: Final = ("low", "medium", "high", "xhigh", "max")  # of `output_config.effort`

CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
TIERS: Final = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_FUNCTION: Final = ("name", "description", "parameters", "strict", "cache_control")
NATIVE: Final = frozenset({"thinking", "output_config", "cache_control"})

_MEANT: Final = {**MEANT, "logprobs": (False,), "top_logprobs": (0,)}
_SAMPLING_ENDED: Final = "2026-10-21"  # this API version has no temperature, top_p or top_k


class Translation:
    """The translation of one request: the body, and the list of changes."""

    def __init__(self, order: Order, version: str) -> None:
        self.fields = fields_of(order)
        self.order = order
        self.version = version
        self.changes: list[str] = []
        self.body: Fields = {"model": order.target.model, "stream": order.stream}
        self._effort = ""

    def messages(self) -> Fields:
        """The body of POST /messages."""
        conversation = converse(self.fields)
        self.changes += conversation.changes
        self.body["max_tokens"] = self._max_tokens()
        if conversation.system:
            self.body["system"] = conversation.system_field()
        self.body["messages"] = conversation.turns
        self._parameters()
        self._close_tools(conversation.tools)
        if self._effort and "thinking" not in self.body:
            self._think(conversation)
        if "temperature" in self.body and "top_p" in self.body:  # both together are a 400 since Claude Opus 4.1
            self._drop("temperature" if self.body["temperature"] == 1 else "top_p")
        if self.version >= _SAMPLING_ENDED or self._known().get("sampling") is False:
            self._drop("temperature", "top_p", "top_k")
        return self.body

    def _max_tokens(self) -> int:
        if self.fields.get("max_completion_tokens") is not None and self.fields.get("max_tokens") is not None:
            self.changes.append("drop max_tokens")  # the newer name wins
        for name in ("max_completion_tokens", "max_tokens"):
            if self.fields.get(name) is not None:
                return int(number(self.fields[name], name))
        self.changes.append("default max_tokens")
        if limit := self.order.limits.output if self.order.limits else None:
            return limit
        thinking = self.fields.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        return DEFAULT_MAX_TOKENS + (budget if isinstance(budget, int) else 0)  # must exceed the budget

    def _parameters(self) -> None:
        for name, value in self.fields.items():
            if value is None or name in HANDLED:
                continue
            if name in NATIVE:
                self.body[name] = {**self.body.get(name, {}), **mapping(value, name)}
            elif name in RULES:
                RULES[name](self, name, value)
            else:
                self.changes += leftover(name, value, _MEANT)

    def _temperature(self, name: str, value: Any) -> None:
        """0 to 2 in OpenAI's API, 0 to 1 in Anthropic's."""
        if number(value, name) > 1:
            self.changes.append("clamp temperature")
        self.body[name] = min(value, 1)

    def _number(self, name: str, value: Any) -> None:
        self.body[name] = number(value, name)

    def _stop(self, name: str, value: Any) -> None:
        found = strings(value, name)
        if not all(map(str.strip, found)):
            raise cannot(name, "Anthropic accepts no stop sequence of white space alone.")
        self.body["stop_sequences"] = found

    def _user(self, name: str, value: Any) -> None:
        self.body["metadata"] = {"user_id": text(value, name)}

    def _tier(self, name: str, value: Any) -> None:
        if isinstance(value, str) and value in TIERS:
            self.body[name] = TIERS[value]
        else:
            self.changes.append(f"drop {name}")

    def _tools(self, name: str, value: Any) -> None:
        found = []
        for function, tool in tools(value):
            found.append(_tool(function, tool))
            self.changes += ignored_members(tool, ("type", "function", "cache_control")) + ignored_members(
                function, _FUNCTION
            )
        if found:
            self.body[name] = found

    def _tool_choice(self, name: str, value: Any) -> None:
        if isinstance(value, str) and value in CHOICES:
            self.body[name] = {"type": CHOICES[value]}
        elif isinstance(value, dict) and value.get("type") == "function":
            chosen = mapping(value.get("function"), "tool_choice.function").get("name")
            self.body[name] = {"type": "tool", "name": text(chosen, "tool_choice.function.name")}
        else:
            raise cannot(name, "tool_choice must be auto, none, required or one function.")

    def _close_tools(self, called: list[str]) -> None:
        """Earlier tool calls require `tools`; whether calls may be parallel is a property of `tool_choice`."""
        choice = self.body.get("tool_choice")
        if "tools" not in self.body:
            if choice and choice["type"] in ("any", "tool"):
                raise refuse("tool_choice", "tool_choice asks for a tool, but there are no tools.")
            self._drop("tool_choice")
            if called:  # the client offers no tools, so none may be called again
                self.body["tools"] = [_tool({"name": name}, {}) for name in called]
                self.body["tool_choice"] = {"type": "none"}
                self.changes.append("set tools")
        elif self.fields.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
            self.body["tool_choice"] = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}

    def _format(self, name: str, value: Any) -> None:
        """A JSON schema is enforced. Unconstrained JSON cannot be, and is refused rather than promised."""
        kind = mapping(value, name).get("type")
        if kind == "json_schema":
            shape = {"type": "json_schema", "schema": schema_of(value)}
            self.body["output_config"] = {"format": shape, **self.body.get("output_config", {})}
        elif kind != "text":
            raise cannot(name, "Anthropic supports JSON output by schema only: use response_format.type json_schema.")

    def _reasoning(self, name: str, value: Any) -> None:
        self.changes += ignored_members(mapping(value, name), ("effort",), "reasoning.")
        if (effort := value.get("effort")) is not None:
            self._set_effort("reasoning.effort", effort)

    def _set_effort(self, name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in ("none", *EFFORTS):
            raise refuse(name, f"{name} must be one of none, {', '.join(EFFORTS)}.")
        self._effort = value

    def _think(self, conversation: Conversation) -> None:
        """No thinking with a prefill; none by a budget with a forced tool, or after calls without their thinking."""
        style = self._style()
        adaptive = style == "adaptive"
        if self._effort == "none":
            if adaptive:
                self._think_not()
            return
        forced = self.body.get("tool_choice", {}).get("type") in ("any", "tool")
        budget = 0 if adaptive else self._budget()
        impossible = not adaptive and (forced or conversation.unsigned or budget < LEAST_BUDGET)
        if style is None or impossible or conversation.prefilled:
            self.changes.append("drop reasoning_effort")
            return
        if adaptive:
            self.body["thinking"] = {"type": "adaptive"}
            self._set_level(EFFORTS[self._effort])
        else:
            self.body["thinking"] = {"type": "enabled", "budget_tokens": budget}
            self._make_room(budget)
        if self.body.get("temperature") != 1:
            self._drop("temperature")
        if self.body.get("top_p", 1) < 0.95:
            self._drop("top_p")
        self._drop("top_k")

    def _think_not(self) -> None:
        """Disables thinking in the way that the model accepts; a model that always thinks gets the lowest effort."""
        if off := self._known().get("off", "disabled"):
            self.body["thinking"] = {"type": off}
        else:
            self.changes.append("raise reasoning_effort")
            self._set_level(LEVELS[0])

    def _set_level(self, wanted: str) -> None:
        """Sets the effort, or the next lower one that the model supports. The client's own `output_config` wins."""
        own: Fields = self.body.get("output_config", {})
        if "effort" in own:
            return
        taken = self._known().get("efforts") or LEVELS
        below = [level for level in LEVELS[: LEVELS.index(wanted) + 1] if level in taken]
        level = below[-1] if below else taken[0]
        if level != wanted:
            self.changes.append("clamp reasoning_effort")
        self.body["output_config"] = {"effort": level, **own}

    def _style(self) -> object:
        """The upstream's `thinking` option, else what the catalogue says (None: no thinking), else by a budget."""
        return self.order.target.options.get("thinking", self._known().get("thinking", "enabled"))

    def _known(self) -> Mapping[str, Any]:
        """What the catalogue says of the model besides its limits."""
        return (self.order.limits.extra if self.order.limits else None) or {}

    def _budget(self) -> int:
        """Tokens for thinking: from the table, but at most what the model's limit leaves beside the answer, or half."""
        limit = self.order.limits.output if self.order.limits else None
        budget, asked = BUDGETS[self._effort], int(self.body["max_tokens"])
        return min(budget, max(limit - asked, limit // 2)) if limit and asked <= budget else budget

    def _make_room(self, budget: int) -> None:
        """Raises `max_tokens`, which includes thinking and must exceed its budget."""
        asked = self.body["max_tokens"]
        if asked <= budget:
            limit = (self.order.limits.output if self.order.limits else None) or budget + asked
            self.body["max_tokens"] = max(budget + 1, min(budget + asked, limit))
            self.changes.append("raise max_tokens")

    def _drop(self, *names: str) -> None:
        for name in names:
            if self.body.pop(name, None) is not None:
                self.changes.append(f"drop {name}")


def _tool(function: Fields, tool: Fields) -> Fields:
    schema = mapping(function.get("parameters") or {"properties": {}}, "tools.function.parameters")
    found: Fields = {"name": function["name"], "input_schema": {"type": "object"} | schema}  # `type` is required
    optional: Mapping[str, Any] = {
        "description": function.get("description"),
        "strict": function.get("strict"),
        "cache_control": tool.get("cache_control") or function.get("cache_control"),
    }
    return found | {name: value for name, value in optional.items() if value is not None}


def _ignore(translation: Translation, name: str, value: Any) -> None:
    """Handled elsewhere."""


RULES: Final[Mapping[str, Callable[[Translation, str, Any], None]]] = {
    "max_tokens": _ignore,
    "max_completion_tokens": _ignore,
    "temperature": Translation._temperature,
    "top_p": Translation._number,
    "top_k": Translation._number,
    "stop": Translation._stop,
    "tools": Translation._tools,
    "tool_choice": Translation._tool_choice,
    "parallel_tool_calls": _ignore,
    "reasoning_effort": Translation._set_effort,
    "reasoning": Translation._reasoning,
    "user": Translation._user,
    "safety_identifier": Translation._user,
    "response_format": Translation._format,
    "service_tier": Translation._tier,
}
"""Parameters, and the methods that translate them."""
