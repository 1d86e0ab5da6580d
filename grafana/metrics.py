"""The metrics that queries may name: what the code does not count is a KeyError before it can be an empty panel."""

from collections.abc import Mapping
from typing import Any, Final

from proxy.errors import STATUS
from proxy.instruments import Family, Instruments
from proxy.logs import dropped_lines
from proxy.metrics import Metrics


def families() -> Mapping[str, Family[Any]]:
    """Every metric of the code by its name."""
    instruments = Instruments()
    Metrics(instruments)
    dropped_lines(instruments)
    return instruments._families


_FAMILIES: Final = families()

REQUESTS: Final = _FAMILIES["sluice_requests_total"].name
DURATION: Final = _FAMILIES["sluice_request_duration_seconds"].name
OVERHEAD: Final = _FAMILIES["sluice_overhead_seconds"].name
FIRST_TOKEN: Final = _FAMILIES["sluice_time_to_first_token_seconds"].name
PER_TOKEN: Final = _FAMILIES["sluice_time_per_output_token_seconds"].name
ATTEMPTS: Final = _FAMILIES["sluice_attempts_total"].name
TOKENS: Final = _FAMILIES["sluice_tokens_total"].name
COST: Final = _FAMILIES["sluice_cost_usd_total"].name
IN_FLIGHT: Final = _FAMILIES["sluice_in_flight"].name
STREAMS: Final = _FAMILIES["sluice_streams_open"].name
CACHE: Final = _FAMILIES["sluice_cache_total"].name
BREAKER: Final = _FAMILIES["sluice_breaker_open"].name
UP: Final = _FAMILIES["sluice_upstream_up"].name
DISCONNECTS: Final = _FAMILIES["sluice_client_disconnects_total"].name
CONFIG_VALID: Final = _FAMILIES["sluice_config_valid"].name
RELOADS: Final = _FAMILIES["sluice_config_reloads_total"].name
MALFORMED: Final = _FAMILIES["sluice_malformed_events_total"].name
UPSTREAM_SENT: Final = _FAMILIES["sluice_upstream_sent_total"].name
DISPATCH_SENT: Final = _FAMILIES["sluice_dispatch_sent_total"].name
RESENT: Final = _FAMILIES["sluice_upstream_resent_total"].name
BUILD: Final = _FAMILIES["sluice_build_info"].name
LOG_DROPPED: Final = _FAMILIES["sluice_log_lines_dropped_total"].name

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
