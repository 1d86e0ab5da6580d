"""What is known of upstreams: listed, looked up, refreshed, and never lost because a fetch failed."""

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import SluiceError
from proxy.providers.contract import Answer, Model, Provider, Request, Target
from proxy.providers.ollama import Ollama
from proxy.stages.catalog import Catalog, Shelf, chats
from tests.stages.planned import planned
from tests.waiting import until


class Listing(Provider):
    """Two requests for a catalogue; each answer's body is a model's name."""

    def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
        first = yield Request("/1")
        second = yield Request("/2")
        return [Model(first.body.decode(), context=100), Model(second.body.decode())]


def shelf(**more: Any) -> Shelf:
    off = more.pop("off", "")
    return Shelf(Target("up", "", Listing(), "http://x", "", off=off), "openai", more.pop("configured", {}), **more)


def fetched(kept: Shelf, *answers: bytes | SluiceError) -> bool:
    left = list(answers)

    async def fetch(target: Target, request: Request, patience: float) -> Answer:
        answer = left.pop(0)
        if isinstance(answer, SluiceError):
            raise answer
        return Answer(200, [], answer)

    return asyncio.run(Catalog({"up": kept}, fetch).refresh(kept))


BROKEN = SluiceError("upstream_unreachable", "It cannot be reached.")


def test_a_catalogue_is_fetched_and_the_last_good_one_stays() -> None:
    kept = shelf()
    assert kept.state == "unknown"
    assert kept.refusal("anything") is None  # what cannot be known lets names through
    assert fetched(kept, b"a", b"b")
    assert (kept.state, list(kept.models), kept.trouble) == ("fetched", ["a", "b"], "")
    assert not fetched(kept, b"c", BROKEN)
    assert (kept.state, list(kept.models), kept.trouble) == ("fetched", ["a", "b"], "It cannot be reached.")
    assert fetched(kept, b"c", b"d")
    assert (list(kept.models), kept.trouble) == (["c", "d"], "")


def refreshed(kept: Shelf, models: Sequence[Model] | None) -> bool:
    async def fetch(target: Target, request: Request, patience: float) -> Answer:
        return Answer(200, [], b"")

    class Said(Provider):
        def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
            yield Request("/")
            return models

    kept.target = replace(kept.target, provider=Said())
    return asyncio.run(Catalog({"up": kept}, fetch).refresh(kept))


def test_an_upstream_that_is_well_and_lists_nothing_keeps_what_was_known() -> None:
    kept = shelf(configured={"said": Model("said", output=7)}, strict=True)
    assert not fetched(kept, BROKEN)
    assert (kept.state, list(kept.models)) == ("unknown", [])
    assert refreshed(kept, None)
    assert (kept.state, list(kept.models), kept.trouble) == ("unknown", ["said"], "")
    assert kept.refusal("other") is None
    assert refreshed(kept, [Model("a")])
    assert refreshed(kept, None)
    assert (kept.state, list(kept.models)) == ("fetched", ["a"])
    assert refreshed(kept, [])  # that there are none is news
    assert (kept.state, list(kept.models)) == ("fetched", [])


def test_what_the_config_says_is_over_what_the_upstream_says() -> None:
    kept = shelf(configured={"a": Model("a", output=7, prices={"input": 1.0})})
    fetched(kept, b"a", b"b")
    assert (kept.models["a"].context, kept.models["a"].output, kept.models["a"].prices) == (100, 7, {"input": 1.0})


@pytest.mark.parametrize("strict", [True, False])
def test_a_fetched_catalogue_refuses_only_if_it_is_strict(strict: bool) -> None:
    kept = shelf(strict=strict)
    fetched(kept, b"alpha", b"b")
    assert kept.refusal("alpha") is None
    assert (kept.refusal("alphx") is not None) is strict


def test_a_fixed_catalogue_stays_what_it_is_and_learns_limits() -> None:
    kept = shelf(fixed=("a", "z"))
    assert (kept.state, list(kept.models)) == ("fixed", ["a", "z"])
    fetched(kept, b"a", b"b")
    assert (kept.state, list(kept.models), kept.models["a"].context) == ("fixed", ["a", "z"], 100)
    refusal = kept.refusal("b")
    assert refusal is not None
    assert (refusal.code, refusal.status) == ("model_not_found", 404)


def test_a_variant_of_a_model_is_known_by_its_name() -> None:
    kept = shelf()
    fetched(kept, b"vendor/a", b"b")
    known = kept.look_up("vendor/a:free")
    assert known is not None
    assert known.context == 100
    assert kept.look_up("c") is None


def test_an_upstream_that_is_off_lists_nothing() -> None:
    catalog = Catalog(
        {"up": shelf(off="no key", fixed=("a",))}, fetch=lambda *_: asyncio.sleep(0, Answer(200, [], b""))
    )
    assert (catalog.entries(), catalog.names(), catalog.entry("up/a")) == ([], [], None)


def test_every_name_that_can_be_called_is_listed() -> None:
    catalog = planned("""
upstreams:
  east: {provider: openai, base_url: "http://127.0.0.1:1/v1", models: [org/a, b], limits: {b: {context: 9, output: 3}}}
routes: [{model: house, to: east/b}]
personas: {pirate: {upstream: east, model: b}}
""").catalog
    ids = [entry["id"] for entry in catalog.entries()]
    assert sorted(ids) == ["east/b", "east/org/a", "house", "persona/pirate"]
    for name in ids:
        entry = catalog.entry(name)
        assert entry is not None
        assert (entry["id"], entry["object"]) == (name, "model")
        assert entry["upstream"] == "east"
    b = catalog.entry("east/b")
    assert b is not None
    assert (b["context_length"], b["max_output_tokens"], b["upstream"]) == (9, 3, "east")
    assert catalog.entry("east/c") is catalog.entry("nobody/b") is catalog.entry("") is None
    assert {entry["id"] for entry in catalog.entries("east")} == {"east/b", "east/org/a", "persona/pirate"}
    with pytest.raises(SluiceError) as raised:
        catalog.entries("nobody")
    assert raised.value.status == 404


@pytest.mark.parametrize(
    "name",
    ["gpt-4o", "o4-mini", "meta-llama/llama-guard-4-12b", "mattson/x", "google/gemini-2.5-flash-image", "qwen3:8b"],
)
def test_a_model_is_for_chats_where_nothing_speaks_against_it(name: str) -> None:
    assert chats(Model(name))
    assert not chats(Model(name, chat=False))


@pytest.mark.parametrize(
    "name",
    [
        "text-embedding-3-small",
        "nomic-embed-text",
        "whisper-large-v3",
        "tts-1-hd",
        "gpt-4o-mini-tts",
        "gpt-4o-transcribe",
    ]
    + ["gpt-image-1", "dall-e-3", "omni-moderation-latest", "gpt-4o-realtime-preview", "BAAI/bge-reranker-v2"],
)
def test_a_model_that_is_named_for_other_work_is_not_for_chats(name: str) -> None:
    assert not chats(Model(name))
    assert chats(Model(name, chat=True))  # its upstream knows better


def test_a_name_that_only_an_upstream_that_is_off_could_answer_is_not_listed() -> None:
    catalog = planned("""
upstreams:
  east: {provider: openai, base_url: "http://127.0.0.1:1/v1", models: [b]}
  asleep: {provider: openrouter}
routes: [{model: house, to: [asleep/a, east/b]}, {model: gone, to: asleep/a}]
personas: {pirate: {upstream: asleep, model: a}}
""").catalog
    assert [entry["id"] for entry in catalog.entries()] == catalog.names() == ["house", "east/b"]
    assert catalog.entries()[0]["upstream"] == "east"
    assert catalog.entry("gone") is catalog.entry("persona/pirate") is None
    assert catalog.entries("asleep") == []


def test_refreshing_goes_on_after_failures_until_it_is_ended() -> None:
    kept, tries = shelf(refresh=0.01), []

    async def fetch(target: Target, request: Request, patience: float) -> Answer:
        tries.append(request.path)
        if len(tries) < 4:
            raise BROKEN
        return Answer(200, [], b"a")

    async def run() -> None:
        task = asyncio.create_task(Catalog({"up": kept}, fetch).run())
        await until(lambda: kept.state == "fetched" and len(tries) >= 10)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    assert kept.trouble == ""


def test_a_list_that_nobody_can_read_is_trouble_of_its_own_upstream_alone() -> None:
    class Odd(Listing):
        def catalog(self, target: Target) -> Generator[Request, Answer, Sequence[Model] | None]:
            answer = yield Request("/1")
            known: dict[bytes, str] = {}
            return [Model(known[answer.body])]

    kept = Shelf(Target("up", "", Odd(), "http://x", ""), "openai", {})
    assert not fetched(kept, b"a")
    assert kept.trouble == "Its list of models cannot be read."


@pytest.mark.parametrize("fixed", [None, ("llama3.2",)])
def test_a_model_is_known_by_every_name_it_goes_by(fixed: tuple[str, ...] | None) -> None:
    kept = Shelf(Target("up", "", Ollama(), "http://x", ""), "ollama", {}, fixed, strict=True)
    kept.take([Model("llama3.2:latest", context=8192)])
    known = kept.look_up("llama3.2")
    assert known is not None and known.context == 8192
    assert kept.refusal("llama3.2") is None
    assert (kept.refusal("llama3") is None, kept.look_up("llama3.2:1b")) == (False, None if fixed is None else known)


@pytest.mark.parametrize("asked", ["llama3.2", "llama3.2:latest"])
@pytest.mark.parametrize("named", ["llama3.2", "llama3.2:latest"])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("listed", [[Model("llama3.2:latest", context=8192, output=10)], None])
def test_what_config_yaml_says_of_a_model_holds_by_every_name_it_goes_by(
    asked: str, named: str, fixed: bool, listed: list[Model] | None
) -> None:
    said = {named: Model(named, context=4096, prices={"input": 1.0})}
    kept = Shelf(Target("up", "", Ollama(), "http://x", ""), "ollama", said, (asked,) if fixed else None)
    if listed is not None:  # else nothing was fetched yet
        kept.take(listed)
    catalog = Catalog({"up": kept}, fetch=lambda *_: asyncio.sleep(0, Answer(200, [], b"")))
    known = kept.look_up(asked)
    assert known is not None and (known.context, known.output) == (4096, listed and 10)
    assert catalog.prices("up", asked) == {"input": 1.0}
    assert catalog.known("up", asked) and not catalog.known("up", "llama3.2:1b")


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("listed", True),
        ("fallback", True),
        ("alias", True),
        ("shared", True),
        ("of-persona", True),
        ("voice", True),
        ("vectors", True),
        ("judge", True),
        ("gpt-4o", False),
        ("{model}", False),
        ("alias-of-client", False),
    ],
)
def test_a_model_that_config_yaml_names_is_known_without_any_list(model: str, known: bool) -> None:
    catalog = planned("""
        upstreams:
          a: {provider: openai, base_url: http://127.0.0.1:1, limits: {listed: {context: 10}}}
        routes:
          - {prefix: gpt-, to: ["a/{model}", a/fallback]}
          - {model: alias, to: "a/{model}", cache: {exact: 1h, similar: 1h, verify: a/judge}}
          - {prefix: w/, to: [{upstream: a, model: shared, weight: 1}, {upstream: a, model: "x-{rest}", weight: 1}]}
        personas:
          pirate: {upstream: a, model: of-persona}
        vapi: {model: a/voice}
        cache: {similar: {embedder: a/vectors}}
    """).catalog
    assert catalog.known("a", model) == known
