"""Ollama's native API as its own server speaks it (ollama/ollama server/routes.go)."""

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.doubles import ollama_v1
from tests.doubles.ollama_checks import FIELDS, OPTIONS, binding, option
from tests.doubles.ollama_models import MODELS, OllamaModel
from tests.doubles.openai_others import vector
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Received, Wait, json_answer, stream_answer, text_answer
from tests.doubles.words import Said, count, limited, pieces, prefilled, prompt_tokens, question

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
CREATED_AT = "2026-08-04T08:52:19.385406Z"
BUSY = "server busy, please try again.  maximum pending requests exceeded"


def line(value: object) -> bytes:
    """One line of a native stream."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class OllamaDouble(Double):
    """`num_ctx` is OLLAMA_CONTEXT_LENGTH. What a request holds that Ollama drops in silence is kept in `ignored`."""

    name = "ollama"
    work = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/completions", "/v1/embeddings")
    load_seconds = 0.0  # what a model that is not loaded takes before the first byte
    cached = False  # the whole prompt is cached: counts of it are absent

    def __init__(self, *, models: Sequence[OllamaModel] = MODELS, port: int = 0, num_ctx: int = 4096) -> None:
        super().__init__(models=[model.name for model in models], port=port)
        self.pulled = {model.name: model for model in models}
        self.num_ctx = num_ctx
        self.loaded: dict[str, int] = {}  # the window each loaded model has
        self.loads = 0
        self.ignored: set[str] = set()
        self.posts: dict[str, Callable[[Received], Answer]] = {
            "/api/chat": self.chat,
            "/api/generate": self.generate,
            "/api/embed": self.embed,
            "/api/embeddings": self.embeddings,
            "/api/show": self.show,
            "/v1/chat/completions": lambda request: ollama_v1.chat(self, request),
            "/v1/completions": lambda request: ollama_v1.completions(self, request),
            "/v1/embeddings": lambda request: ollama_v1.embeddings(self, request),
        }

    # the HTTP side

    def respond(self, request: Received) -> Answer:
        """403 with an empty body where the Host is not local, before everything else."""
        if not local(request.header("host")):
            return Answer(403)
        return super().respond(request)

    def answer(self, request: Received) -> Answer:
        path, method = request.route, request.method
        if path in ("", "/") and method in ("GET", "HEAD"):
            return text_answer("Ollama is running")
        if method == "GET" and (found := self.read(path)):
            return found
        if path not in self.posts:
            return text_answer("404 page not found", 404, "text/plain")
        if method != "POST":
            return text_answer("405 method not allowed", 405, "text/plain")
        if not request.body:
            return self.failed(request, 400, "missing request body")
        try:
            body = request.json
        except ValueError:
            return self.failed(request, 400, "invalid character 'x' looking for beginning of value")
        if not body.get("model"):
            return self.failed(request, 400, "model is required")
        return self.posts[path](request)

    def read(self, path: str) -> Answer | None:
        """What a GET of this path gets, if it is one of Ollama's."""
        if path == "/api/version":
            return self.json({"version": "0.31.2"})
        if path == "/api/tags":
            return self.json({"models": [model.tag() for model in self.pulled.values()]})
        if path == "/api/ps":
            return self.json({"models": [self.pulled[name].loaded(window) for name, window in self.loaded.items()]})
        if path == "/v1/models":
            return json_answer(ollama_v1.models(self.pulled.values()))
        if path.startswith("/v1/models/"):
            return ollama_v1.model(self, path.removeprefix("/v1/models/"))
        return None

    def json(self, value: object, status: int = 200) -> Answer:
        return replace(json_answer(value, status), headers=(("content-type", JSON),))

    # errors

    def failed(self, request: Received, status: int, message: str, code: str | None = None) -> Answer:
        if request.route.startswith("/v1/"):
            return ollama_v1.failure(status, message)
        return self.json({"error": message}, status)

    def failed_event(self, request: Received, message: str, code: str | int) -> bytes:
        """On /v1 the error is lost: it goes out as an empty chunk of no model."""
        text = "an error was encountered while running the model: " + message
        return ollama_v1.lost_error() if request.route.startswith("/v1/") else line({"error": text})

    def too_long(self, request: Received) -> Answer:
        text = "the prompt is longer than the context length currently available"
        return self.failed(request, 400, f"{text}, reduce its length or increase num_ctx")

    def filtered(self, request: Received) -> Answer:
        """Ollama filters nothing: the model itself declines."""
        return self.answer(replace(request, said=Said("I'm sorry, but I can't help with that.")))

    def is_end(self, event: bytes) -> bool:
        return event.startswith(b"data: [DONE]") or b'"done":true' in event

    # models

    def find(self, name: str) -> OllamaModel | None:
        """The pulled model of that name; without a tag it is `latest`."""
        return self.pulled.get(name if ":" in name.rpartition("/")[2] else f"{name}:latest")

    def unknown(self, request: Received, name: str) -> Answer:
        return self.failed(request, 404, f"model '{name}' not found")

    def window(self, model: OllamaModel, options: Mapping[str, Any]) -> int:
        """The context that a request runs in: asked for, of the Modelfile, or the server's own."""
        return min(options.get("num_ctx") or model.num_ctx or self.num_ctx, model.context)

    def load(self, model: OllamaModel, body: Mapping[str, Any]) -> float:
        """Load the model with the window asked for; the seconds that takes. `keep_alive: 0` unloads it after."""
        window = self.window(model, body.get("options") or {})
        cold = self.loaded.get(model.name) != window
        self.loads += cold
        self.loaded[model.name] = window
        if body.get("keep_alive") in (0, "0", "0s"):
            del self.loaded[model.name]
        return self.load_seconds if cold else 0.0

    # chat

    def chat(self, request: Received) -> Answer:
        body = request.json
        model = self.find(body["model"])
        if wrong := binding(body):
            return self.failed(request, 400, wrong)
        if model is None:
            return self.unknown(request, body["model"])
        if refused := self.incapable(request, model, body):
            return refused
        options = body.get("options") or {}
        if wrong := option(options):
            return self.failed(request, 500, wrong)
        self.ignored |= (body.keys() - FIELDS.keys()) | (options.keys() - OPTIONS.keys())
        if not body.get("messages"):
            return self.warm_up(model, body)
        fitted = self.fitted(body["messages"], self.window(model, options))
        if fitted != body["messages"] and body.get("truncate") is False:
            return self.too_long(request)
        before = (Wait(self.load(model, body)),)
        said = self.spoken(request, model, {**body, "messages": fitted})
        lines = self.lines(body, said, prompt_tokens(fitted))
        if body.get("stream") is False:
            return replace(self.json(merged(lines)), before=before)
        return replace(stream_answer([line(one) for one in lines], NDJSON), before=before)

    def incapable(self, request: Received, model: OllamaModel, body: Mapping[str, Any]) -> Answer | None:
        """400 for what this model cannot do."""
        has = model.capabilities
        if "completion" not in has:
            return self.failed(request, 400, f'"{body["model"]}" does not support chat')
        if body.get("tools") and "tools" not in has:
            return self.failed(request, 400, f"registry.ollama.ai/library/{model.name} does not support tools")
        if body.get("think") not in (None, False) and "thinking" not in has:
            return self.failed(request, 400, f'"{body["model"]}" does not support thinking')
        if not 0 <= (body.get("top_logprobs") or 0) <= 20:
            return self.failed(request, 400, "top_logprobs must be between 0 and 20")
        return None

    def warm_up(self, model: OllamaModel, body: Mapping[str, Any]) -> Answer:
        """No messages: the model is loaded or unloaded."""
        reason = "unload" if body.get("keep_alive") in (0, "0", "0s") else "load"
        self.load(model, body)
        message = {"role": "assistant", "content": ""}
        base = {"model": body["model"], "created_at": CREATED_AT, "message": message}
        return self.json({**base, "done": True, "done_reason": reason})

    def fitted(self, messages: Sequence[Mapping[str, Any]], window: int) -> list[Mapping[str, Any]]:
        """What is left when the oldest messages are dropped in silence until the rest fits; the last always stays."""
        kept = list(messages)
        while prompt_tokens(kept) > window:
            at = next((at for at, message in enumerate(kept[:-1]) if message.get("role") != "system"), None)
            if at is None:
                break
            del kept[at]
        return kept

    def spoken(self, request: Received, model: OllamaModel, body: Mapping[str, Any]) -> Said:
        messages = body["messages"]
        said = self.compose(request, question(messages))
        said = replace(said, text=prefilled(messages, said.text))
        if "thinking" not in model.capabilities or body.get("think") is False:
            said = replace(said, reasoning="")
        elif not said.reasoning:
            said = replace(said, reasoning="Okay, let me think.")
        limit = (body.get("options") or {}).get("num_predict")
        return limited(said, limit if limit and limit > 0 else None)

    def lines(self, body: Mapping[str, Any], said: Said, prompt: int) -> list[dict[str, Any]]:
        """The objects of the stream: thinking, text, each tool call whole, and the end with its counts."""
        base = {"model": body["model"], "created_at": CREATED_AT}

        def one(content: str, **more: object) -> dict[str, Any]:
            return {**base, "message": {"role": "assistant", "content": content, **more}, "done": False}

        found = [one("", thinking=token) for token in pieces(said.reasoning)]
        for token in pieces(said.text):
            found.append({**one(token), **_logprobs(body, token)})
        for at, call in enumerate(said.tools):
            function = {"index": at, "name": call.name, "arguments": json.loads(call.arguments)}
            found.append(one("", tool_calls=[{"id": call.named(at).id, "function": function}]))
        reason = "length" if said.reason == "length" else "stop"
        counts = {"prompt_eval_count": 0 if self.cached else prompt, "eval_count": said.tokens}
        end = {**one(""), "done": True, "done_reason": reason, "total_duration": 4_883_583_458}
        times = {"load_duration": 1_334_875, "prompt_eval_duration": 342_546_000, "eval_duration": 4_535_599_000}
        return [*found, {**end, **{name: value for name, value in counts.items() if value}, **times}]

    # the other endpoints

    def generate(self, request: Received) -> Answer:
        """The same as chat with one message, with `response` in place of `message`."""
        body = request.json
        prompt = body.get("prompt") or ""
        messages = [{"role": "user", "content": prompt}] if prompt else []
        asked = {key: value for key, value in body.items() if key not in ("prompt", "system")} | {"messages": messages}
        answer = self.chat(replace(request, body=json.dumps(asked).encode()))
        if answer.status != 200:
            return answer
        return answer.with_acts(*(_as_response(act) if isinstance(act, bytes) else act for act in answer.acts))

    def show(self, request: Received) -> Answer:
        name = request.json["model"]
        model = self.find(name)
        return self.json(model.shown()) if model else self.unknown(request, name)

    def embed(self, request: Received) -> Answer:
        body = request.json
        model = self.find(body["model"])
        if model is None:
            return self.failed(request, 404, f'model "{body["model"]}" not found, try pulling it first')
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) else given
        if body.get("truncate") is False and any(count(text) > model.context for text in texts):
            return self.failed(request, 400, "the input length exceeds the context length")
        found = [vector(text, body.get("dimensions") or 8) for text in texts]
        times = {"total_duration": 14_143_917, "load_duration": 1_019_500}
        counts = {"prompt_eval_count": sum(map(count, texts))}
        return self.json({"model": body["model"], "embeddings": found, **times, **counts})

    def embeddings(self, request: Received) -> Answer:
        body = request.json
        if self.find(body["model"]) is None:
            return self.failed(request, 404, f'model "{body["model"]}" not found, try pulling it first')
        return self.json({"embedding": vector(body.get("prompt", ""), 8)})


def merged(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The whole answer of a stream's objects."""
    messages = [one["message"] for one in lines]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(one["content"] for one in messages)}
    if thinking := "".join(one.get("thinking", "") for one in messages):
        message["thinking"] = thinking
    if calls := [call for one in messages for call in one.get("tool_calls", ())]:
        message["tool_calls"] = calls
    found = {**lines[-1], "message": message}
    if probabilities := [each for one in lines for each in one.get("logprobs", ())]:
        found["logprobs"] = probabilities
    return found


def _logprobs(body: Mapping[str, Any], token: str) -> dict[str, Any]:
    """Made-up log probabilities of one token, where they were asked for."""
    one = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    top = {"top_logprobs": [one] * min(1, body["top_logprobs"])} if body.get("top_logprobs") else {}
    return {"logprobs": [{**one, **top}]} if body.get("logprobs") else {}


def _as_response(piece: bytes) -> bytes:
    told = json.loads(piece)
    message = told.pop("message")
    thinking = {"thinking": message["thinking"]} if "thinking" in message else {}
    end = piece[len(piece.rstrip(b"\n")) :]
    return line({**told, "response": message["content"], **thinking}).rstrip(b"\n") + end


def local(host: str) -> bool:
    """Whether Ollama, bound to loopback, takes this Host."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_private
