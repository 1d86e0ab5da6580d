"""The five locks against bypassing the routing table: checked in the source, and on a running proxy.

Lock 4, the matrix of doors and providers, is tests/journeys/test_separation.py.
"""

import ast
import dataclasses
import inspect
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.doors.admin import AdminDoor
from proxy.doors.openai import OpenAIDoor
from proxy.doors.operations import Operations
from proxy.doors.table import Table
from proxy.gateway import Gateway
from proxy.providers.contract import Target
from proxy.providers.registry import provider
from proxy.upstream.sending import Upstreams
from tests.doubles.faults import CutAfter, ErrorIn200, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.runpod import RunPodDouble
from tests.running import Running, sluice

ROOT = Path(__file__).parent.parent
WORDS = (
    "errors reply call sse headers hosts naming units jsonedit jsonspans jsongrammar secrecy clocks watch"
    " assembling responding orphans usage shapes"
).split()
FLOORS = (
    [f"proxy.{word}" for word in WORDS] + ["proxy", "proxy.logs", "proxy.instruments", "proxy.metrics"],
    ["proxy.settings", "proxy.store"],
    ["proxy.providers", "proxy.importing", "proxy.tracing"],
    ["proxy.policies", "proxy.serving"],
    ["proxy.upstream", "proxy.caches", "proxy.embedders"],
    ["proxy.stages"],
    ["proxy.gateway"],
    ["proxy.doors", "proxy.planning", "proxy.cache_setup"],
    ["proxy.personas", "proxy.keys", "proxy.warning"],
    ["proxy.decisions", "proxy.ledger"],
    ["proxy.building", "proxy.control", "proxy.health", "proxy.accounts"],
    ["proxy.reloading"],
    ["proxy.app"],
    ["proxy.selftest"],
    ["proxy.cli"],
    ["proxy.__main__"],
)
"""Floors from the ground up. A folder stands on one floor; imports go down, or stay within a folder or the words."""

REACHES_OUT = {
    *("socket", "ssl", "http.client", "urllib.request", "requests", "aiohttp", "httpx", "httpcore", "httptools"),
    *("uvicorn", "websockets", "smtplib", "ftplib", "telnetlib", "xmlrpc.client", "urllib3", "pycurl", "openai"),
}
"""Modules that open sockets or ask by HTTP."""

MAY_REACH_OUT = ("proxy.upstream", "proxy.serving", "proxy.selftest", "proxy.cli.load")
"""Our way to upstreams, our server, and two commands that measure from outside and hold no keys."""

ASSEMBLY = ("proxy.app", "proxy.planning", "proxy.building")
MAY_USE_UPSTREAM = (*ASSEMBLY, "proxy.stages.dispatch", "proxy.stages.catalog", "proxy.cli")


def modules() -> dict[str, ast.Module]:
    """Every module of the proxy by its dotted name."""
    found = {}
    for path in sorted((ROOT / "proxy").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text())
    return found


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but what stands under `if TYPE_CHECKING`, which does not run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from statements(node)


def imported(tree: ast.Module) -> set[str]:
    """What a module imports: modules, and modules taken `from` a package."""
    found = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, "relative imports hide where they lead"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} if not inner & MODULES.keys() else inner & MODULES.keys()
    return found


MODULES = modules()
IMPORTS = {name: imported(tree) for name, tree in MODULES.items()}
OWN = {name: {found for found in used if found in MODULES} for name, used in IMPORTS.items()}


def within(module: str, places: tuple[str, ...] | list[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def place(module: str) -> str:
    """The folder of a module; the module itself where it stands alone."""
    return ".".join(module.split(".")[:2])


def floor(module: str) -> int:
    found = [at for at, places in enumerate(FLOORS) if place(module) in places]
    assert found, f"{module} stands on no floor: add it to FLOORS where it belongs"
    return found[0]


# Lock 1: doors hold the Gateway, and nothing that leads past it.


def doors() -> list[type]:
    """Every class in the doors that adds endpoints to the table."""
    found = []
    for name in MODULES:
        if within(name, ["proxy.doors"]):
            for each in vars(import_module(name)).values():
                if isinstance(each, type) and each.__module__ == name and hasattr(each, "endpoints"):
                    if each is not Table:
                        found.append(each)
    return found


@pytest.mark.parametrize("door", doors(), ids=lambda door: door.__name__)
def test_a_door_is_made_of_no_provider_key_or_client(door: type) -> None:
    for name, hint in get_type_hints(door).items():
        assert not any(word in name.lower() for word in ("provider", "upstream", "client", "transport", "key")), name
        assert not any(word in str(hint) for word in ("proxy.providers", "proxy.upstream", "httpx", "Target")), hint


def test_there_are_doors_to_look_at() -> None:
    assert {OpenAIDoor, AdminDoor, Operations} <= set(doors())


def test_the_door_for_clients_takes_the_gateway() -> None:
    assert get_type_hints(OpenAIDoor)["gateway"] is Gateway


def test_every_class_that_answers_clients_takes_the_gateway() -> None:
    """A door of tomorrow too: whatever declares endpoints for clients or Vapi has a Gateway among its fields."""
    for name in MODULES:
        if not within(name, ["proxy.doors"]):
            continue
        for node in ast.walk(MODULES[name]):
            if isinstance(node, ast.ClassDef) and _declares_endpoints_for_clients(node):
                fields = {ast.unparse(part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)}
                assert "Gateway" in fields, f"{name}.{node.name} answers clients past the gateway"


def _declares_endpoints_for_clients(node: ast.ClassDef) -> bool:
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call) and ast.unparse(part.func) == "Endpoint"]
    return any(
        isinstance(argument, ast.Constant) and argument.value in ("client", "chat", "vapi")
        for call in calls
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]
    )


# Lock 2: who may import what.


def test_sockets_and_http_clients_are_only_where_they_belong() -> None:
    outside = {name: used & REACHES_OUT for name, used in IMPORTS.items() if not within(name, MAY_REACH_OUT)}
    assert {name: used for name, used in outside.items() if used} == {}


def test_asyncio_opens_no_connection_elsewhere() -> None:
    openers = {"open_connection", "create_connection", "open_unix_connection", "create_unix_connection"}
    for name, tree in MODULES.items():
        if not within(name, MAY_REACH_OUT):
            called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert not called & openers, name


def test_the_upstream_package_is_only_used_where_targets_are_sent_to() -> None:
    users = {name for name, used in OWN.items() if any(within(found, ["proxy.upstream"]) for found in used)}
    assert {name for name in users if not within(name, ["proxy.upstream", *MAY_USE_UPSTREAM])} == set()


def test_doors_import_the_gateway_and_words_only() -> None:
    allowed = ["proxy.gateway", "proxy.doors", *(f"proxy.{word}" for word in WORDS)]
    for name, used in OWN.items():
        if within(name, ["proxy.doors"]):
            assert {found for found in used if not within(found, allowed)} - {"proxy"} == set(), name


def test_providers_open_nothing() -> None:
    """Providers translate: neither sockets nor files nor processes."""
    for name, used in IMPORTS.items():
        if within(name, ["proxy.providers"]):
            assert not used & (REACHES_OUT | {"asyncio", "subprocess", "os", "pathlib"}), name


def test_imports_go_to_a_lower_floor() -> None:
    """To a lower floor, or within the same folder; the words may use each other."""
    wrong = [
        f"{name} (floor {floor(name)}) imports {found} (floor {floor(found)})"
        for name, used in OWN.items()
        for found in used
        if not (floor(found) < floor(name) or place(found) == place(name) or floor(found) == floor(name) == 0)
    ]
    assert wrong == []


def test_there_is_no_import_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for found in OWN[name]:
                visit(found, (*way, name))
            done.add(name)

    for name in OWN:
        visit(name, ())


@pytest.mark.parametrize(
    "code",
    [
        "import socket",
        "import requests",
        "import aiohttp",
        "import urllib.request",
        "import http.client",
        "import httpx\n\nhttpx.AsyncClient()",
        "import httpx\n\nhttpx.Client()",
    ],
)
@pytest.mark.parametrize(("place", "banned"), [("proxy/doors/x.py", True), ("proxy/upstream/x.py", False)])
def test_ruff_refuses_ways_out(code: str, place: str, banned: bool) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--output-format", "concise"]
    run = subprocess.run(
        [*command, "--stdin-filename", place, "-"], cwd=ROOT, input=f"{code}\n".encode(), capture_output=True
    )
    assert (b"TID251" in run.stdout, run.returncode) == (banned, int(banned)), run.stdout + run.stderr


def test_nothing_in_the_proxy_is_excused_from_that_rule() -> None:
    excused = [
        path.relative_to(ROOT)
        for path in (ROOT / "proxy").rglob("*.py")
        if "TID251" in path.read_text() and not within(".".join(path.relative_to(ROOT).parts), MAY_REACH_OUT)
    ]
    assert excused == []


# Lock 3: what is sent is sent to a Target, and Targets come from the routing table alone.


@pytest.mark.parametrize("name", ["send", "fetch"])
def test_sending_takes_a_target_and_no_address_or_key(name: str) -> None:
    method = getattr(Upstreams, name)
    taken = list(inspect.signature(method).parameters)[1:]
    assert get_type_hints(method)[taken[0]] is Target
    assert not {"url", "base", "address", "host", "key", "headers"} & set(taken)


def test_targets_are_made_in_one_place() -> None:
    makers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Target"
    }
    assert makers == {"proxy.stages.compiling"}


def test_what_replace_makes_of_a_target_keeps_address_and_key_together() -> None:
    """`dataclasses.replace(target, …)` may fill in the model's name, never who is asked."""
    bound = {"upstream", "provider", "base", "key", "headers", "via"}
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("replace") and node.args:
                if "target" in ast.unparse(node.args[0]).lower():
                    assert not bound & {keyword.arg for keyword in node.keywords}, f"{name}:{node.lineno}"


def a_target() -> Target:
    return Target("up", "m", provider("openai", {}), "http://127.0.0.1:1/v1", "sk-of-up")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Target)])
def test_a_target_does_not_change(field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(a_target(), field, "other")


def test_a_target_does_not_show_its_key() -> None:
    assert "sk-of-up" not in repr(a_target()) and "127.0.0.1:1" in repr(a_target())


# Lock 5: the two ends count the same attempts.

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  pods: {{provider: runpod, endpoint_id: ep-double, base_url: {pods}, api_key: rpa_DOUBLEKEY}}
  gone: {{provider: openai, base_url: "http://127.0.0.1:1/v1"}}
defaults:
  timeouts: {{connect: 1s, first_token: 5s, idle: 5s, whole: 5s}}
  retry: {{attempts: 2, backoff: 1ms, max_backoff: 5ms}}
routes:
  - prefix: gpt-
    to: [gone, east]
"""


@pytest.fixture
def proxy(east: OpenAIDouble) -> Iterator[Running]:
    east.strict = False
    with RunPodDouble() as pods:
        with sluice(CONFIG.format(east=east.url, pods=pods.url.removesuffix("/ep-double"))) as running:
            yield running


def mixed_traffic(proxy: Running, east: OpenAIDouble) -> None:
    """Good and bad calls, whole and as streams, to one upstream that works, one that is gone and a queue."""
    east.script(Status(500), Status(503), Status(401), ErrorIn200(), Status(429), CutAfter(5))
    for at in range(10):
        for model in ("gpt-4o", "east/gpt-4o", "gone/gpt-4o", "nobody"):
            proxy.chat({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": at % 2 == 1})
    for stream in (True, False):
        proxy.chat({"model": "pods/m", "messages": [{"role": "user", "content": "hi"}], "stream": stream})


def test_the_upstream_side_and_dispatch_count_the_same_attempts(proxy: Running, east: OpenAIDouble) -> None:
    mixed_traffic(proxy, east)
    seen_by_dispatch = proxy.app.runtime.gateway.stages.dispatch.sent
    assert seen_by_dispatch.totals() == proxy.app.upstreams.sent.totals()
    assert seen_by_dispatch["east"].value == len(east.calls), "and that is what the upstream saw"


def test_metrics_show_both_counts(proxy: Running, east: OpenAIDouble) -> None:
    """A dashboard shows the difference, which must read zero."""
    mixed_traffic(proxy, east)
    with proxy.client() as client:
        shown = list(text_string_to_metric_families(client.get("/metrics").text))
    counted: dict[str, dict[str, float]] = {}
    for sample in (sample for family in shown for sample in family.samples):
        by_upstream = counted.setdefault(sample.name, defaultdict(float))
        by_upstream[sample.labels.get("upstream", "")] += sample.value
    assert counted["sluice_upstream_sent_total"].keys() == {"east", "pods", "gone"}
    assert counted["sluice_upstream_sent_total"] == counted["sluice_dispatch_sent_total"]
    assert counted["sluice_upstream_sent_total"] == counted["sluice_attempts_total"]
