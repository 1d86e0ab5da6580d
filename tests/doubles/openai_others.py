"""OpenAI's completions, embeddings, moderations, images and speech."""

import base64
import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tests.doubles.openai_chat import CREATED, DONE, answer_id
from tests.doubles.wire import Answer, sse
from tests.doubles.words import Said, count, pieces

SIZE = 8  # dimensions of an embedding when none are asked for
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="  # a PNG, 1 x 1
)


def _completion(body: Mapping[str, Any], text: str, finish: str | None) -> dict[str, Any]:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    base = {"id": answer_id("cmpl-", body), "object": "text_completion", "created": CREATED, "model": body["model"]}
    return {**base, "choices": [choice]}


def _counts(body: Mapping[str, Any], said: Said) -> dict[str, int]:
    prompt = count(str(body.get("prompt", "")))
    return {"prompt_tokens": prompt, "completion_tokens": said.tokens, "total_tokens": prompt + said.tokens}


def completion_whole(body: Mapping[str, Any], said: Said) -> dict[str, Any]:
    """The legacy `text_completion` object."""
    return {**_completion(body, said.text, said.reason), "usage": _counts(body, said)}


def completion_events(body: Mapping[str, Any], said: Said) -> list[bytes]:
    """The same as a stream."""
    asked = (body.get("stream_options") or {}).get("include_usage")
    tail: dict[str, Any] = {"usage": None} if asked else {}
    found = [sse({**_completion(body, token, None), **tail}) for token in pieces(said.text)]
    found.append(sse({**_completion(body, "", said.reason), **tail}))
    if asked:
        found.append(sse({**_completion(body, "", None), "choices": [], "usage": _counts(body, said)}))
    return [*found, DONE]


def vector(text: str, size: int) -> list[float]:
    """Numbers in -1..1 that depend on the text alone, exact in float32."""
    found: list[float] = []
    block = 0
    while len(found) < size:
        digest = hashlib.sha256(f"{block}{text}".encode()).digest()
        found.extend((byte - 128) / 128 for byte in digest)
        block += 1
    return found[:size]


def embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    """The list of embeddings, as floats or as base64 of little-endian float32."""
    given = body["input"]
    single = isinstance(given, str) or (isinstance(given, Sequence) and bool(given) and isinstance(given[0], int))
    texts = [given] if single else given
    size = body.get("dimensions") or SIZE
    data = []
    for index, text in enumerate(texts):
        numbers: list[float] | str = vector(str(text), size)
        if body.get("encoding_format") == "base64":
            numbers = base64.b64encode(struct.pack(f"<{size}f", *vector(str(text), size))).decode()
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    prompt = sum(count(str(text)) for text in texts)
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def moderations(body: Mapping[str, Any]) -> dict[str, Any]:
    """Flags what holds the word "attack"."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    results = []
    for text in texts:
        bad = "attack" in str(text)
        results.append({"flagged": bad, "categories": {"violence": bad}, "category_scores": {"violence": float(bad)}})
    return {"id": answer_id("modr-", body), "model": body.get("model", "omni-moderation-latest"), "results": results}


def images(body: Mapping[str, Any]) -> dict[str, Any]:
    """As many pictures as were asked for, of one pixel."""
    data = [{"b64_json": PIXEL}] * (body.get("n") or 1)
    usage = {"input_tokens": count(body["prompt"]), "output_tokens": 272, "total_tokens": count(body["prompt"]) + 272}
    return {"created": CREATED, "data": data, "usage": usage}


def speech(body: Mapping[str, Any]) -> Answer:
    """Bytes that are no text, in chunks; as MP3 by name alone."""
    noise = hashlib.sha256(body["input"].encode()).digest() * 64
    chunks = tuple(noise[at : at + 512] for at in range(0, len(noise), 512))
    return Answer(200, (("content-type", "audio/mpeg"),), chunks, "chunked")
