"""Runs a double by hand: `python -m tests.doubles ollama --port 11434`."""

import argparse
import sys
import time
from collections.abc import Callable

from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.faults import (
    CutAfter,
    ErrorEvent,
    FirstTokenAfter,
    Flap,
    ResetBeforeHeaders,
    Silent,
    StallAfter,
    Status,
)
from tests.doubles.mistral import MistralDouble
from tests.doubles.oddities import MalformedEvent, SlowEvents
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.doubles.openrouter import OpenRouterDouble
from tests.doubles.runpod import RunPodDouble
from tests.doubles.server import Double, Fault

DOUBLES: dict[str, Callable[[int], Double]] = {
    "openai": lambda port: OpenAIDouble(port=port),
    "openrouter": lambda port: OpenRouterDouble(port=port),
    "ollama": lambda port: OllamaDouble(port=port),
    "runpod": lambda port: RunPodDouble(port=port),
    "anthropic": lambda port: AnthropicDouble(port=port),
    "mistral": lambda port: MistralDouble(port=port),
}
FAULTS: dict[str, Fault] = {
    "429": Status(429, retry_after=2),
    "500": Status(500),
    "503": Status(503),
    "reset": ResetBeforeHeaders(),
    "silent": Silent(),
    "late": FirstTokenAfter(20),
    "cut": CutAfter(40),
    "stall": StallAfter(20),
    "malformed": MalformedEvent(),
    "error": ErrorEvent(20),
    "slow": SlowEvents(50),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.doubles", description=__doc__)
    parser.add_argument("provider", choices=DOUBLES)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--fault", choices=FAULTS, help="what happens to every model call")
    parser.add_argument("--first", type=int, metavar="N", help="only to the first N of them")
    chosen = parser.parse_args()
    double = DOUBLES[chosen.provider](chosen.port)
    if chosen.fault and chosen.first:
        double.script(Flap(chosen.first, FAULTS[chosen.fault]))
    elif chosen.fault:
        double.always = FAULTS[chosen.fault]
    with double:
        print(f"{double.name}: {double.url}  key {double.key or 'none'}  models {', '.join(double.models)}", flush=True)
        try:
            watch(double)
        except KeyboardInterrupt:
            pass
    return 0


def watch(double: Double) -> None:
    """Print each request as it comes."""
    seen = 0
    while True:
        time.sleep(0.2)
        for request in double.requests[seen:]:
            print(f"{request.method} {request.path}  {len(request.body)} bytes", flush=True)
            seen += 1


if __name__ == "__main__":
    sys.exit(main())
