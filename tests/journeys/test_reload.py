"""What changes while it runs: the configuration by reload, the default upstream by its switch, both over restarts."""

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.settings import ConfigError
from tests.doubles.faults import Held, HoldAfter, Status
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.doubles.openrouter import OpenRouterDouble
from tests.doubles.pacing import Paced
from tests.doubles.runpod import MODELS, RunPodDouble
from tests.doubles.server import Double
from tests.doubles.words import derived
from tests.journeys.callers import Caller, ask_all, chat
from tests.running import Running, sluice
from tests.waiting import wait_for

UPSTREAMS = """
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
  off: {{provider: openrouter, api_key: ""}}
default_upstream: east
"""
ROUTE = "routes: [{{model: house, to: {to}/gpt-4o, response: {{set: {{service: {to}}}}}}}]\n"
HELLO = {"model": "house", "messages": [{"role": "user", "content": "hello"}]}


@dataclass(frozen=True, slots=True)
class Place:
    """A proxy whose model `house` is answered by east, until its configuration says otherwise."""

    proxy: Running
    east: OpenAIDouble
    west: OpenAIDouble

    def config(self, to: str, more: str = "") -> str:
        return (UPSTREAMS + ROUTE).format(east=self.east.url, west=self.west.url, to=to) + more

    def answering(self, **more: Any) -> str:
        """Which upstream answers now."""
        return str(self.proxy.chat(HELLO | more).headers["x-sluice-upstream"])

    def reload(self, text: str) -> httpx.Response:
        """What an operator does: write the file, and say so."""
        self.write(text)
        return self.admin("POST", "reload")

    def write(self, text: str) -> None:
        """All at once, as editors do."""
        new = self.proxy.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.proxy.path)

    def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return admin(self.proxy, method, path, body)


def admin(proxy: Running, method: str, path: str, body: Any = None) -> httpx.Response:
    with proxy.client() as client:
        return client.request(method, f"/admin/{path}", json=body)


@pytest.fixture
def place() -> Iterator[Place]:
    with OpenAIDouble(key="sk-east") as east, OpenAIDouble(key="sk-west") as west:
        config = (UPSTREAMS + ROUTE).format(east=east.url, west=west.url, to="east")
        with sluice(config) as proxy:
            yield Place(proxy, east, west)


# Reloading.


def test_a_good_file_takes_over_at_once(place: Place) -> None:
    assert place.answering() == "east"
    assert place.reload(place.config("west")).status_code == 200
    assert place.answering() == "west"
    assert place.proxy.metric("sluice_config_valid") == 1
    assert place.proxy.metric("sluice_config_reloads_total", result="ok") == 1


def test_a_stream_ends_by_the_rules_it_began_with(place: Place) -> None:
    """Even where its upstream is gone from the new configuration."""
    place.east.script(HoldAfter(3))
    with place.proxy.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=HELLO | {"stream": True}) as answer:
            pieces = answer.iter_text()
            text = next(pieces)
            without_east = place.config("west").replace("  east:", "  # east:").replace("default_upstream: east", "")
            assert place.reload(without_east).status_code == 200
            assert place.answering() == "west"
            place.east.release()
            text += "".join(pieces)
    events = [event for event in text.split("\n\n") if event.startswith("data: {")]
    assert text.endswith("data: [DONE]\n\n") and len(events) > 10
    assert all('"service":"east"' in event for event in events)


def test_a_removed_upstream_is_not_reported_any_more(place: Place) -> None:
    """Nor do calls that it still answers fail for that, while another's key is refused."""
    place.west.script(Status(401))
    assert place.proxy.chat(HELLO | {"model": "west/gpt-4o"}).status_code == 502
    wait_for(lambda: 'sluice_upstream_up{upstream="east"} 1.0' in metrics(place.proxy))
    place.east.script(Held())
    with ThreadPoolExecutor() as pool:
        running = pool.submit(place.answering)
        wait_for(lambda: place.east.calls)
        place.reload(place.config("west").replace("  east:", "  # east:").replace("default_upstream: east", ""))
        place.east.release()
        assert running.result(10) == "east"
    assert 'sluice_upstream_up{upstream="west"} 0.0' in metrics(place.proxy)
    assert 'sluice_upstream_up{upstream="east"}' not in metrics(place.proxy)


def test_an_upstream_with_a_new_address_has_no_health_until_it_is_asked(place: Place) -> None:
    """By several workers, of which one alone asks for lists of models: until it is called."""
    place.west.script(Status(401))
    assert place.proxy.chat(HELLO | {"model": "west/gpt-4o"}).status_code == 502
    assert 'sluice_upstream_up{upstream="west"} 0.0' in metrics(place.proxy)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        elsewhere = place.config("east").replace(place.west.url, f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        for more in ("", "tests: []\n"):  # the second one breaks off the first one's question
            place.reload(elsewhere + more)
            assert 'sluice_upstream_up{upstream="west"}' not in metrics(place.proxy)


def metrics(proxy: Running) -> str:
    with proxy.client() as client:
        return client.get("/metrics").text


BAD = {
    "no YAML": ("upstreams: [", "config.yaml:8:13"),
    "a typing error": ("upstreems: {}\n", "upstreams"),
    "a route to nowhere": ("routes: [{prefix: a, to: eest}]\n", "eest"),
    "two routes with one prefix": ("routes: [{prefix: a, to: east}, {prefix: a, to: west}]\n", "a"),
    "a failing routing test": ("tests: [{model: house, expect: west/gpt-4o}]\n", "east/gpt-4o"),
    "a missing variable": ("access: {admin_token: '${NOBODY_SET_THIS}'}\n", "NOBODY_SET_THIS"),
}


@pytest.mark.parametrize(("more", "says"), BAD.values(), ids=BAD)
def test_a_bad_file_changes_nothing_and_says_why(place: Place, more: str, says: str) -> None:
    text = place.config("east")
    if more.startswith("routes"):
        text = text[: text.index("routes:")]
    answer = place.reload(text + more)
    assert answer.status_code == 400 and says in answer.json()["error"]["message"]
    assert place.answering() == "east"
    assert place.proxy.metric("sluice_config_valid") == 0
    assert place.proxy.metric("sluice_config_reloads_total", result="failed") == 1
    shown = place.admin("GET", "overview").json()["config"]
    assert shown["valid"] is False and says in shown["problem"]
    place.reload(place.config("west"))
    assert place.answering() == "west" and place.proxy.metric("sluice_config_valid") == 1
    assert place.admin("GET", "overview").json()["config"]["problem"] is None


def test_a_reload_opens_nothing_that_listens_for_all() -> None:
    with OpenAIDouble() as east:
        listening = f"upstreams: {{east: {{provider: openai, base_url: {east.url}}}}}\n"
        closed = "server: {host: 0.0.0.0}\naccess: {keys: required, client_keys: [k]}\n"
        with sluice(listening + closed) as proxy:
            with pytest.raises(ConfigError, match="loopback"):
                proxy.reload(listening + "server: {host: 127.0.0.1}\naccess: {keys: open}\n")
            assert proxy.chat(HELLO).status_code == 401


def test_a_file_that_no_start_would_take_is_not_taken_over_either(place: Place) -> None:
    """Where it runs all callers are on this machine; where the file would have it listen they are not."""
    answer = place.reload(place.config("west", "server: {host: 0.0.0.0}\naccess: {keys: open}\n"))
    assert answer.status_code == 400 and "open is allowed on loopback hosts only" in answer.json()["error"]["message"]
    assert place.answering() == "east"


def test_keys_that_need_a_restart_are_warned_of_once_and_not_when_they_are_put_back(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    for at, server in enumerate(("{host: localhost, drain: 9s}", "{host: localhost, drain: 9s}", "{drain: 9s}", "{}")):
        assert place.reload(place.config("west", f"server: {server}\nlog: {{level: info}}\n")).status_code == 200, at
    told = [record.message for record in caplog.records if "restart" in record.message]
    assert told == [f"server.{key} has changed: a restart is needed" for key in ("host", "drain")]
    assert place.proxy.app.settings.server.host == "127.0.0.1", "by which the doors judge who may come in"


def test_what_was_reloaded_by_hand_is_no_news_to_the_watch(place: Place) -> None:
    """Else everything would be built once more, and asked of the upstreams, two seconds later."""
    assert place.reload(place.config("west")).status_code == 200
    assert not place.proxy.app.reloads._watcher.changed()
    assert place.reload(place.config("west", "routs: []\n")).status_code == 400
    assert not place.proxy.app.reloads._watcher.changed()


def test_a_change_of_the_file_is_seen_by_itself(place: Place) -> None:
    place.proxy.path.write_text(place.config("west"))
    wait_for(lambda: place.proxy.metric("sluice_config_reloads_total", result="ok"), 5)
    assert place.answering() == "west"
    place.proxy.path.write_text(place.config("east", "routs: []\n"))
    wait_for(lambda: place.proxy.metric("sluice_config_valid") == 0, 5)
    assert place.answering() == "west"


def test_a_client_key_is_exchanged_by_a_reload(place: Place) -> None:
    access = "access: {{keys: required, client_keys: [{}]}}\n"
    for new, old in (("first", "second"), ("second", "first")):
        assert place.reload(place.config("east", access.format(new))).status_code == 200
        assert place.proxy.chat(HELLO, authorization=f"Bearer {new}").status_code == 200
        assert place.proxy.chat(HELLO, authorization=f"Bearer {old}").status_code == 401


def test_calls_do_not_notice_that_it_is_reloaded_again_and_again(place: Place) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(place.proxy.chat, HELLO | {"stream": at % 2 == 0}) for at in range(24)]
        for at in range(6):
            assert place.reload(place.config(("east", "west")[at % 2])).status_code == 200
        answers = [each.result() for each in asked]
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        assert f'"service":"{answer.headers["x-sluice-upstream"]}"' in answer.text, "one configuration for one call"


def test_of_reloads_that_overlap_the_one_asked_for_last_counts(place: Place) -> None:
    """The file's watcher, SIGHUP and an operator may all see a change; a large file takes longer to read than a small one."""
    large = place.config("east") + "tests: [" + "{model: house, expect: east/gpt-4o}, " * 3000 + "]\n"
    with ThreadPoolExecutor(1) as pool:
        place.write(large)
        first = pool.submit(place.admin, "POST", "reload")
        time.sleep(0.1)  # the large one is being read; where it is not yet, the test is just an easier one
        assert place.reload(place.config("west")).status_code == 200
        assert first.result().status_code == 200
    assert place.answering() == "west"


STREAMS = 200
TICK = 0.1  # seconds between two reloads
TICKS = (("east", ""), ("west", ""), ("east", "routs: []\n"), ("east", ""), ("west", "tests: 7\n"), ("west", ""))
"""Where the file that is written each time leads, and what is wrong with it."""


def test_two_hundred_streams_do_not_notice_a_reload_each_tenth_of_a_second(place: Place) -> None:
    place.east.always = place.west.always = Paced(0.02, HoldAfter(20))
    callers = [Caller(chat("gpt-4o", f"question {at}") | WITH_USAGE, keeps=False) for at in range(STREAMS)]
    asked_of = asyncio.run(reloaded_under(place, callers))
    said = {double.answer(call).body for double in (place.east, place.west) for call in double.calls}
    assert len(said) == len(place.east.calls) + len(place.west.calls) == STREAMS, "each was asked once"
    for caller, upstream in zip(callers, asked_of, strict=True):
        answer = caller.answer  # whole by its framing
        assert (answer.status, answer.headers["x-sluice-upstream"]) == (200, upstream), "new calls follow the new file"
        assert answer.body in said and caller.heard.text == derived(caller.question)
    assert set(asked_of) == {"east", "west"}
    wait_for(lambda: place.proxy.metric("sluice_streams_open") == 0 == place.proxy.metric("sluice_in_flight"))
    assert place.proxy.metric("sluice_requests_total", door="openai", code="ok") == STREAMS


WITH_USAGE = {"stream_options": {"include_usage": True}}  # so that what the double says is passed on to the last byte


async def reloaded_under(place: Place, callers: list[Caller]) -> list[str]:
    """Reloads again and again, with twenty more streams after each, to the end of all. Where each stream had to go."""
    loop, asked_of, good = asyncio.get_running_loop(), list[str](), "east"
    ticks = 0
    while not all(caller.closed.is_set() for caller in callers):
        due = loop.time() + TICK
        to, wrong = TICKS[ticks % len(TICKS)]
        text = place.config(to, wrong).replace("default_upstream: east", f"default_upstream: {to}")
        status = (await asyncio.to_thread(place.reload, text)).status_code
        assert status == (400 if wrong else 200)
        good = good if wrong else to
        more = callers[len(asked_of) : len(asked_of) + 20]
        await ask_all(more, int(place.proxy.url.rpartition(":")[2]))
        asked_of += [good] * len(more)
        ticks += 1
        if all(caller.begun for caller in callers):  # all at once are under way
            place.east.release()
            place.west.release()
        await asyncio.sleep(due - loop.time())
    return asked_of


# The switch of the default upstream.


def switched(proxy: Running, name: str | None) -> httpx.Response:
    return admin(proxy, "PUT", "provider-settings", {"default_upstream": name})


def test_the_default_upstream_is_switched_at_once(place: Place) -> None:
    """A name that no route takes goes where the switch points; one that names its upstream stays there."""
    assert place.answering(model="gpt-4.1") == "east"
    answer = switched(place.proxy, "west")
    assert answer.status_code == 200 and answer.json()["default_upstream"] == "west"
    assert place.answering(model="gpt-4.1") == "west"
    assert place.answering(model="east/gpt-4.1") == "east" and place.answering(model="house") == "east"


def test_what_can_be_switched_to_is_listed_with_its_state(place: Place) -> None:
    wait_for(lambda: place.proxy.app.runtime.plan.catalog.shelves["east"].state == "fetched")
    said = place.admin("GET", "provider-settings").json()
    assert said["default_upstream"] == "east"
    listed = {entry["name"]: entry for entry in said["upstreams"]}
    assert listed["east"]["live"] and listed["east"]["provider"] == "openai" and listed["east"]["models"] > 3
    assert listed["off"]["live"] is False and listed["off"]["reason"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"default_upstream": "nobody"}, 400, "client_invalid_request"),
        ({"default_upstream": "off"}, 409, "upstream_not_configured"),
        ({"default_upstream": 7}, 400, "client_invalid_request"),
        ({"default_upstreem": "west"}, 400, "client_invalid_request"),
        ({}, 400, "client_invalid_request"),
        ([], 400, "client_invalid_request"),
    ],
    ids=str,
)
def test_a_switch_that_makes_no_sense_is_refused(place: Place, body: Any, status: int, code: str) -> None:
    answer = place.admin("PUT", "provider-settings", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert place.answering(model="gpt-4.1") == "east"


def test_the_switch_outlives_reloads_and_null_resets_it(place: Place) -> None:
    switched(place.proxy, "west")
    place.reload(place.config("east"))
    assert place.answering(model="gpt-4.1") == "west"
    assert switched(place.proxy, None).json()["default_upstream"] == "east"
    assert place.answering(model="gpt-4.1") == "east"


def test_the_switch_outlives_restarts(place: Place, tmp_path: Path) -> None:
    config = place.config("east", f"store: sqlite:///{tmp_path}/kept.db\n")
    with sluice(config) as first:
        switched(first, "west")
    with sluice(config) as second:
        assert second.chat(HELLO | {"model": "gpt-4.1"}).headers["x-sluice-upstream"] == "west"
        switched(second, None)
    with sluice(config) as third:
        assert third.chat(HELLO | {"model": "gpt-4.1"}).headers["x-sluice-upstream"] == "east"


def test_a_choice_that_the_configuration_no_longer_has_does_not_count(place: Place, tmp_path: Path) -> None:
    store = f"store: sqlite:///{tmp_path}/kept.db\n"
    with sluice(place.config("east", store)) as first:
        switched(first, "west")
    with sluice(place.config("east", store).replace("  west:", "  # west:")) as second:
        assert second.chat(HELLO | {"model": "gpt-4.1"}).headers["x-sluice-upstream"] == "east"


def test_a_store_of_a_relative_path_lies_beside_the_configuration(place: Place) -> None:
    switched(place.proxy, "west")
    assert (place.proxy.path.parent / "sluice.db").exists()


# The checks of the system that this one replaces, in their order.

CHECKLIST = """
store: sqlite:///{store}
upstreams:
  openrouter: {{provider: openrouter, base_url: {openrouter}, api_key: sk-or-v1-double-key}}
  ollama: {{provider: ollama, base_url: {ollama}}}
  runpod: {{provider: runpod, base_url: {runpod}, endpoint_id: ep-double, api_key: rpa_DOUBLEKEY}}
default_upstream: openrouter
"""


def test_the_checklist_of_the_replaced_system(tmp_path: Path) -> None:
    with OpenRouterDouble() as openrouter, OllamaDouble() as ollama, RunPodDouble() as runpod:
        runpod.workers["running"] = 1
        doubles: dict[str, Double] = {"openrouter": openrouter, "ollama": ollama, "runpod": runpod}
        addresses = {name: double.url.removesuffix("/ep-double") for name, double in doubles.items()}
        config = CHECKLIST.format(store=tmp_path / "kept.db", **addresses)
        own = {"openrouter": "openai/gpt-4o", "ollama": "llama3.2", "runpod": MODELS[0]}
        with sluice(config) as proxy:
            chat_goes_to(proxy, doubles, "openrouter", own)
            for name in ("ollama", "runpod", "openrouter", "ollama"):
                assert switched(proxy, name).status_code == 200
                chat_goes_to(proxy, doubles, name, own)
            each_lists_its_own_models(proxy, doubles)
            prompts_are_held_to_each_models_limit(proxy, openrouter)
        with sluice(config) as restarted:
            chat_goes_to(restarted, doubles, "ollama", own)
        assert openrouter.keys_seen == {"sk-or-v1-double-key"} and runpod.keys_seen == {"rpa_DOUBLEKEY"}
        assert not ollama.keys_seen


def chat_goes_to(proxy: Running, doubles: dict[str, Double], name: str, own: dict[str, str]) -> None:
    """A chat without any upstream's name reaches this one alone, whole and as a stream."""
    for stream in (False, True):
        calls = {each: len(double.calls) for each, double in doubles.items()}
        answer = proxy.chat(HELLO | {"model": own[name], "stream": stream})
        assert (answer.status_code, answer.headers["x-sluice-upstream"]) == (200, name), answer.text
        assert {each for each, double in doubles.items() if len(double.calls) > calls[each]} == {name}


def each_lists_its_own_models(proxy: Running, doubles: dict[str, Double]) -> None:
    """The models of one provider are never shown as another's."""
    shelves = proxy.app.runtime.plan.catalog.shelves
    wait_for(lambda: all(shelf.state == "fetched" for shelf in shelves.values()))
    with proxy.client() as client:
        for name, double in doubles.items():
            listed = {entry["id"] for entry in client.get(f"/v1/models?upstream={name}").json()["data"]}
            assert listed and all(each.startswith(f"{name}/") for each in listed)
            known = set(double.models)
            assert {each.removeprefix(f"{name}/").removesuffix(":latest") for each in listed} <= known | {
                each.removesuffix(":latest") for each in known
            }


def prompts_are_held_to_each_models_limit(proxy: Running, openrouter: OpenRouterDouble) -> None:
    """Short prompts go through; one that surely does not fit is refused here, by numbers, and not sent."""
    with proxy.client() as client:
        entry = client.get("/v1/models/openrouter/openai/gpt-4o").json()
    context, output = entry["context_length"], entry["max_output_tokens"]
    assert context and output
    for words, limit, fits in ((10, 16, True), (2_000, 16, True), (10, output + 1, False), (3 * context, 16, False)):
        calls = len(openrouter.calls)
        body = {"model": "openrouter/openai/gpt-4o", "max_tokens": limit}
        answer = proxy.chat(body | {"messages": [{"role": "user", "content": "word " * words}]})
        assert answer.status_code == (200 if fits else 400), answer.text[:300]
        assert len(openrouter.calls) == calls + fits
        if not fits:
            assert answer.json()["error"]["code"] == "context_length_exceeded"
