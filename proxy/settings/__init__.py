"""config.yaml and the environment, as frozen settings or one clear list of problems."""

from proxy.settings.addresses import ProviderFacts
from proxy.settings.exporting import json_schema
from proxy.settings.loading import load
from proxy.settings.problems import ConfigError, Problem
from proxy.settings.schema import Settings
from proxy.settings.watching import Watcher

__all__ = ["ConfigError", "Problem", "ProviderFacts", "Settings", "Watcher", "json_schema", "load"]
