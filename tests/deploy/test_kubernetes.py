"""The manifests agree with each other, with the image and with what Sluice serves."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.app import Sluice
from proxy.planning import load_settings
from proxy.settings import ConfigError
from tests.deploy.dockerfile import pairs
from tests.deploy.test_dockerfile import IMAGE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
CONFIG = FOLDER / "config.yaml"


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


KUSTOMIZATION = read("kustomization.yaml")
DEPLOYMENT = read("deployment.yaml")["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_every_file_is_in_a_kustomization() -> None:
    for folder, unlisted in ((FOLDER, {"config.yaml"}), (FOLDER / "monitoring", set[str]())):
        listed = set(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"])
        assert {path.name for path in folder.glob("*.yaml")} == listed | unlisted | {"kustomization.yaml"}
        for name in listed:
            document = yaml.safe_load((folder / name).read_text())
            assert document["apiVersion"] and document["kind"] and document["metadata"]["name"] == "sluice"


def test_probes_ask_for_paths_that_sluice_serves_openly(tmp_path: Path) -> None:
    environ = {"SLUICE_KEY": "sk-1"}
    file = tmp_path / "config.yaml"
    file.write_text(re.sub("store: .*", "store: sqlite:///sluice.db", CONFIG.read_text()))
    app = Sluice(file, environ, load_settings(file, environ))
    app.decisions.store.close()  # it is never started, so nothing else would
    table = app.runtime.front.table
    served = {endpoint.path: endpoint.access for endpoint in table.endpoints if "GET" in endpoint.methods}
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {served[probe["path"]] for probe in probes.values()} == {"open"}
    assert probes["readiness"]["path"] == "/readyz" and probes["liveness"]["path"] == "/livez"
    (port,) = CONTAINER["ports"]
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert str(port["containerPort"]) == IMAGE.last("EXPOSE").text == str(app.settings.server.port)
    endpoint = read("monitoring/monitor.yaml")["spec"]["endpoints"][0]
    assert served[endpoint["path"]] == "metrics"


def test_the_pod_runs_as_the_images_user_with_as_little_as_it_needs() -> None:
    user, _, group = IMAGE.last("USER").text.partition(":")
    about = POD["securityContext"]
    assert about["runAsNonRoot"] is True
    assert (str(about["runAsUser"]), str(about["runAsGroup"]), str(about["fsGroup"])) == (user, group, group)
    inside = CONTAINER["securityContext"]
    assert inside["readOnlyRootFilesystem"] is True and inside["allowPrivilegeEscalation"] is False
    assert inside["capabilities"] == {"drop": ["ALL"]} and POD["automountServiceAccountToken"] is False


def test_volumes_are_where_the_image_looks() -> None:
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert set(mounts) == set(volumes) and not any("subPath" in mount for mount in mounts.values())
    environ = {variable["name"]: variable["value"] for variable in CONTAINER["env"]}
    assert (
        environ["SLUICE_CONFIG"]
        == f"{mounts['config']['mountPath']}/{KUSTOMIZATION['configMapGenerator'][0]['files'][0]}"
    )
    assert pairs(IMAGE.last("ENV").text)["SLUICE_CONFIG"] == environ["SLUICE_CONFIG"]
    assert mounts["data"]["mountPath"] == IMAGE.last("VOLUME").words()[0]
    assert volumes["config"]["configMap"]["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
    assert CONTAINER["envFrom"] == [{"secretRef": {"name": KUSTOMIZATION["secretGenerator"][0]["name"]}}]


def test_the_configuration_holds_with_the_secrets_keys_and_not_without() -> None:
    example = (FOLDER / "secret.env.example").read_text()
    keys = set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+)", CONFIG.read_text()))
    assert keys <= used and "SLUICE_KEY" in keys
    assert load_settings(CONFIG, dict.fromkeys(keys, "sk-1")).access.keys == "required"
    with pytest.raises(ConfigError, match=r"access\.client_keys"):
        load_settings(CONFIG, dict.fromkeys(keys, ""))
    assert (FOLDER / ".gitignore").read_text().split() == KUSTOMIZATION["secretGenerator"][0]["envs"]


def test_a_pod_has_time_to_drain() -> None:
    before = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = load_settings(CONFIG, {"SLUICE_KEY": "sk-1"}).server.drain
    assert POD["terminationGracePeriodSeconds"] > before + drain
    assert DEPLOYMENT["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_scaling_and_disruption_fit_together() -> None:
    scaling, disruption = read("scaling.yaml")["spec"], read("disruption.yaml")["spec"]
    assert scaling["minReplicas"] > disruption["minAvailable"]
    assert "replicas" not in DEPLOYMENT, "it would undo the autoscaler at every apply"
    metrics = {metric["type"]: metric for metric in scaling["metrics"]}
    assert metrics["Pods"]["pods"]["metric"]["name"] == "sluice_in_flight"
    assert "cpu" in CONTAINER["resources"]["requests"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl to render the manifests with")
    folder = shutil.copytree(FOLDER, tmp_path_factory.mktemp("kubernetes") / "kubernetes")
    (folder / "secret.env").write_text("SLUICE_KEY=sk-1\n")
    made = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return {document["kind"]: document for document in yaml.safe_load_all(made.stdout)}


def test_kustomize_renders_it_all(rendered: Mapping[str, Any]) -> None:
    kinds = {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Secret", "Service"}
    assert set(rendered) == kinds
    pod = rendered["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for selector in (
        rendered["Service"]["spec"]["selector"],
        rendered["Deployment"]["spec"]["selector"]["matchLabels"],
        rendered["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        read("monitoring/monitor.yaml")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    monitored = read("monitoring/monitor.yaml")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= rendered["Service"]["metadata"]["labels"].items()
    (secret,) = (source["secretRef"]["name"] for source in pod["spec"]["containers"][0]["envFrom"])
    assert secret == rendered["Secret"]["metadata"]["name"] != "sluice", "its hash rolls the pods"
    assert rendered["ConfigMap"]["metadata"]["name"] == "sluice-config"
    assert (
        rendered["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
        == rendered["Deployment"]["metadata"]["name"]
    )
