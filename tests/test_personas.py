"""A persona is validated before it is stored, and an unreadable one never keeps Sluice from starting."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from proxy.errors import SluiceError
from proxy.personas import Personas, persona
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice
from tests.stages.planned import call, planned

CONFIG = """
upstreams: {east: {provider: openai, base_url: "http://127.0.0.1:1/v1"}}
personas: {pirate: {upstream: east, model: m, system: Arr.}}
"""
GOOD = {"name": "poet", "upstream": "east", "model": "m"}


def deep(levels: int) -> list[Any]:
    return orjson.loads(b"[" * levels + b"]" * levels)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"name": "a b"}, "name"), ({"name": ""}, "name"), ({"name": "../x"}, "name"), ({"name": "x" * 65}, "name"),
     ({"name": 7}, "name"), ({"name": "x\n"}, "name"), ({"model": ""}, "model"), ({"model": None}, "model"),
     ({"upstream": []}, "upstream"), ({"system": 7}, "system"), ({"set": []} , ""), ({"set": [1]}, "set"), ({"set": "x"}, "set"),
     ({"set": {"model": "x"}}, "set"), ({"set": {"Model.x": 1}}, "set"), ({"set": {"a": deep(251)}}, "set"), ({"set": {"": 1}}, "set"), ({"colour": 1}, "colour")],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    if not param:
        assert persona(GOOD | fields).set == {}
        return
    with pytest.raises(SluiceError) as raised:
        persona(GOOD | fields)
    assert (raised.value.status, raised.value.param) == (400, param)


def test_it_comes_back_from_its_text() -> None:
    made = persona(GOOD | {"system": "Rhyme.\n\u2028", "set": {"temperature": 1.5, "a.b": [1]}})
    kept = Personas()
    kept.take({"poet": made.text()})
    assert kept.made == {"poet": made}


@pytest.mark.parametrize("text", ["", "{", "7", "[]", "null", "{}", '{"upstream":"east"}', '{"upstream":"east","model":"m","set":7}',
                                  '{"upstream":"east","model":"m","from":"a later version"}'])  # fmt: skip
def test_what_cannot_be_read_any_more_is_passed_over(text: str) -> None:
    kept = Personas()
    kept.take({"bad": text, "poet": persona(GOOD).text()})
    assert list(kept.made) == ["poet"]


def test_they_join_the_table_but_for_names_and_upstreams_that_are_not_theirs() -> None:
    plan, kept = planned(CONFIG), Personas()
    for name, upstream in (("poet", "east"), ("pirate", "east"), ("lost", "gone")):
        kept.made[name] = persona({"name": name, "upstream": upstream, "model": "kept"})
    kept.join(plan)
    assert plan.router.resolve("persona/poet").targets[0].model == "kept"
    assert plan.router.resolve("persona/pirate").targets[0].model == "m"  # the config's
    assert "persona/lost" not in [route.match for route in plan.router.exact_routes()]
    with pytest.raises(SluiceError, match="its upstream gone is gone from config.yaml"):
        plan.router.resolve("persona/lost")
    assert [(each["name"], each["source"]) for each in kept.listed(plan, "east")] == [
        ("pirate", "config"),
        ("poet", "store"),
    ]
    del kept.made["poet"], kept.made["lost"]
    kept.join(plan)
    assert [route.match for route in plan.router.exact_routes()] == ["persona/pirate"]
    with pytest.raises(SluiceError, match="There is no persona 'lost'"):
        plan.router.resolve("persona/lost")


PATHS = ["a..b", ".", "a.", ".a", "0", "a.0.b", "messages.0.content", "a\\.b", "\\", "a\\", "Model", "mo\\del", "MODEL", " model",
         "messages", "stream", "é", "\n", "x" * 300]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_whatever_paths_it_sets_it_is_refused_or_it_works(path: str) -> None:
    try:
        made = persona(GOOD | {"set": {path: 1}})
    except SluiceError:
        return
    plan, kept = planned(CONFIG), Personas({"poet": made})
    kept.join(plan)
    asked = call({"model": "persona/poet"})
    choice = plan.router.choose(asked)
    try:
        order = plan.screen.prepare(asked, choice.route).order(choice.targets[0])
    except SluiceError as error:
        assert error.status < 500
        return
    fields = orjson.loads(order.body)
    assert fields["model"] == "m"
    assert [name for name in fields if name.lower() == "model"] == ["model"]


def test_over_http_it_is_made_called_listed_and_deleted() -> None:
    with OpenAIDouble(key="") as east:
        east.strict = False
        config = f"upstreams: {{east: {{provider: openai, base_url: {east.url}}}}}\npersonas: {{pirate: {{upstream: east, model: m}}}}"
        with sluice(config) as running, running.client() as client:
            for name, status in (("poet", 201), ("poet", 201), ("pirate", 409)):
                assert (
                    client.post("/admin/personas", json=GOOD | {"name": name, "system": "Rhyme."}).status_code == status
                )
            assert running.chat({"model": "persona/poet", "messages": []}).status_code == 200
            assert east.requests[-1].json["messages"] == [{"role": "system", "content": "Rhyme."}]
            for wrong in ({"upstream": "gone"}, {"set": {"a": deep(900)}}):
                assert client.post("/admin/personas", json=GOOD | wrong).status_code == 400
            assert client.post("/admin/personas", json=GOOD | {"set": {"a": deep(249)}}).status_code == 201
            listed = client.get("/admin/personas").json()["data"]
            assert [each["name"] for each in listed] == ["pirate", "poet"]
            assert client.post("/admin/personas", json=listed[1]).json() == listed[1], "what is listed can be sent back"
            for name, status in (("poet", 204), ("poet", 404), ("pirate", 409), ("%2e%2e", 404)):
                assert client.delete(f"/admin/personas/{name}").status_code == status
            assert running.chat({"model": "persona/poet", "messages": []}).status_code != 500


def test_deleted_twice_at_the_same_time_it_is_gone() -> None:
    config = """
    upstreams: {east: {provider: openai, base_url: "http://127.0.0.1:1/v1", models: [m]}}
    """

    async def delete(running: Running) -> set[int]:
        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
            found = await asyncio.gather(*(client.delete("/admin/personas/poet") for _ in range(10)))
        return {answer.status_code for answer in found}

    with sluice(config) as running, running.client() as client:
        for _ in range(10):
            assert client.post("/admin/personas", json=GOOD).status_code == 201
            assert asyncio.run(delete(running)) <= {204, 404}
        assert client.get("/admin/personas").json() == {"data": []}
