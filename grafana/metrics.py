"""The names that queries use, read off the instruments that count, so that neither can drift from the other."""

from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from proxy.errors import STATUS
from proxy.stages.metering import Instruments


def series(instrument: MetricWrapperBase) -> str:
    """The name of an instrument's samples; of a histogram the name before `_bucket`, `_sum` and `_count`."""
    (family,) = instrument.describe()
    return f"{family.name}_total" if family.type == "counter" else family.name


_MADE: Final = Instruments(CollectorRegistry())

REQUESTS: Final = series(_MADE.requests)
DURATION: Final = series(_MADE.duration)
OVERHEAD: Final = series(_MADE.overhead)
FIRST_TOKEN: Final = series(_MADE.first_token)
PER_TOKEN: Final = series(_MADE.per_token)
ATTEMPTS: Final = series(_MADE.attempts)
TOKENS: Final = series(_MADE.tokens)
COST: Final = series(_MADE.cost)
IN_FLIGHT: Final = series(_MADE.in_flight)
STREAMS: Final = series(_MADE.streams)
CACHE: Final = series(_MADE.cache)
BREAKER: Final = series(_MADE.breaker)
UP: Final = series(_MADE.up)
DISCONNECTS: Final = series(_MADE.disconnects)
CONFIG_VALID: Final = series(_MADE.config_valid)
RELOADS: Final = series(_MADE.reloads)
MALFORMED: Final = series(_MADE.malformed)
UPSTREAM_SENT: Final = series(_MADE.sent)
DISPATCH_SENT: Final = "sluice_dispatch_sent_total"
BUILD: Final = "sluice_build_info"

FAULTS: Final = ("client", "policy", "upstream", "proxy")
"""Who can be at fault, as the code of an error says."""


def fault(code: str) -> str:
    """Whose fault it was; what OpenAI has its own names for is the client's."""
    first = code.partition("_")[0]
    return first if first in FAULTS else "client"


def codes(*at_fault: str) -> str:
    """A regular expression for the codes of these faults: "policy_.+|upstream_.+"."""
    shortened = (f"{fault(code)}_.+" if code.startswith(fault(code)) else code for code in STATUS)
    return "|".join(dict.fromkeys(found for found in shortened if fault(found) in at_fault))
