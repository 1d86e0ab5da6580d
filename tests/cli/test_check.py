"""`sluice check` prints warnings too; tests/journeys/test_commands.py covers the rest."""

from pathlib import Path

import pytest

from proxy.cli import main

CONFIG = """
upstreams: {fixed: {provider: openai, base_url: "http://127.0.0.1:9/v1", models: [m]}, other: {provider: ollama}}
personas: {pirate: {upstream: fixed, model: m}}
routes:
  - {model: alike, to: fixed/m, cache: {exact: 1h, VERIFY}}
vapi: {secret: s, model: MODEL}
"""
VERIFY = "routes.0.cache.verify: no upstream can answer {}, so no similar answer is ever served"
USUAL = "vapi.model: no upstream can answer {}, so Vapi's calls without a model get a 404"


@pytest.mark.parametrize(
    ("verify", "model", "warnings"),
    [
        ("similar: 1h, verify: fixed/m", "persona/pirate", []),
        ("similar: 1h, verify: fixed/n", "other/any", [VERIFY.format("fixed/n")]),
        ("similar: 1h, verify: nobody", "other/any", [VERIFY.format("nobody")]),
        ("verify: nobody", "other/any", []),
        ("similar: 1h", "persona/pirat", [USUAL.format("persona/pirat")]),
        ("similar: 1h", "fixed/n", [USUAL.format("fixed/n")]),
    ],
)
def test_models_that_no_upstream_can_answer_are_warnings(
    verify: str, model: str, warnings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `semantic`")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("VERIFY", verify).replace("MODEL", model))
    assert main(["check", str(config)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{config}: warning: {each} (as far as this file shows)" for each in warnings]
