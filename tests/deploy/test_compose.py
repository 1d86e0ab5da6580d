"""compose.yaml agrees with the image, the configuration and the dashboards that it puts together."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.planning import load_settings
from proxy.settings import ConfigError
from tests.deploy.test_dockerfile import IMAGE

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CONFIG = ROOT / "deploy/docker/config.yaml"


def variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", text))


def test_the_usual_services_and_those_of_profiles() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {
        "sluice",
        "prometheus",
        "grafana",
    }
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        name: [name] for name in ("ollama", "redis", "postgres")
    }


def test_nothing_is_published_beyond_this_machine_and_ports_are_the_images() -> None:
    ports = {name: port.split(":") for name, service in SERVICES.items() for port in service.get("ports", ())}
    assert {address for address, _, _ in ports.values()} == {"127.0.0.1"}
    assert ports["sluice"][2] == IMAGE.last("EXPOSE").text
    scraped = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"] == [{"targets": [f"sluice:{IMAGE.last('EXPOSE').text}"]}]
    assert scraped["job_name"] == "sluice"


def test_sluice_runs_with_as_little_as_it_needs() -> None:
    service = SERVICES["sluice"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"] and "privileged" not in service
    assert "/tmp" in service["tmpfs"]
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > load_settings(CONFIG, {"SLUICE_KEY": "sk-1"}).server.drain


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source, target = mount.split(":")[:2]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]
            assert target.startswith("/")
    lock = re.search(r":-(\w+)}", SERVICES["sluice"]["build"]["args"]["LOCK"])
    assert lock and (ROOT / f"requirements/{lock[1]}.lock").is_file()


def test_keys_come_from_the_environment_and_each_is_explained() -> None:
    text, example = (ROOT / "compose.yaml").read_text(), (ROOT / ".env.example").read_text()
    explained = set(re.findall(r"^#?(\w+)=", example, re.MULTILINE))
    assert variables(text) - {"SLUICE_LOCK"} <= explained
    assert SERVICES["sluice"]["environment"]["SLUICE_KEY"].startswith("${SLUICE_KEY:?")
    assert not re.findall(r"^(?:SLUICE_KEY|\w+_(?:PASSWORD|TOKEN|API_KEY))=[^\s#]", example, re.MULTILINE)


def test_the_configuration_takes_what_compose_gives_it() -> None:
    given = SERVICES["sluice"]["environment"]
    named = variables(CONFIG.read_text())
    assert set(given) <= named
    empty = dict.fromkeys(given, "")
    settings = load_settings(CONFIG, empty | {"SLUICE_KEY": "sk-1", "SLUICE_DEFAULT_UPSTREAM": "local"})
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 8080)
    assert settings.access.keys == "required" and settings.default_upstream == "local"
    assert settings.store == "sqlite:////var/lib/sluice/sluice.db"
    with pytest.raises(ConfigError, match=r"access\.client_keys"):
        load_settings(CONFIG, empty)


def test_images_are_named_without_a_registrys_host() -> None:
    for service in SERVICES.values():
        assert "." not in service["image"].partition("/")[0].partition(":")[0]
