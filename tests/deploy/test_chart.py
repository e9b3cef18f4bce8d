"""``make chart``: Helm itself lints and renders the chart, and what it renders passes Kubernetes' own schemas.

Without Helm's and the schemas' packages (the extra ``chart``) only what needs neither is tested.
"""

from __future__ import annotations

import importlib.util
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from mindsight.bus import Bus, WorkQueue
from mindsight.settings import Settings

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm"
GIVEN: dict[str, Any] = {"image": {"tag": "1.2.3"}, "redis": {"secret": "decoder-redis"}}
SCALED = {"enabled": True, "prometheus": "http://prometheus.monitoring:9090"}
INGRESS = {"enabled": True, "host": "decoder.lab.example", "tlsSecret": "decoder-tls", "className": "nginx"}
WHOLE: dict[str, Any] = {
    **GIVEN,
    "image": {"tag": "1.2.3", "pullSecrets": ["registry"]},
    "autoscaling": SCALED,
    "gateway": {"ingress": INGRESS},
    "inference": {"nodeSelector": {"card": "h200"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
    "data": {"storageClass": "nfs"},
}
SMALL = {
    **GIVEN,
    "inference": {"device": "cpu"},
    "networkPolicy": {"enabled": False},
    "data": {"existingClaim": "mine"},
}
BUCKET = {**GIVEN, "blobs": {"url": "s3://lab/decoder", "endpoint": "https://s3.lab.example", "secret": "bucket"}}
VERSIONS = ("1.27", "1.37")
CUSTOM = "keda.sh/v1alpha1"  # of KEDA, whose schemas no package has

helm = pytest.mark.skipif(importlib.util.find_spec("helm_python") is None, reason="needs the extra chart: make chart")


def rendered(values: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Kind and name -> what Helm makes of the chart."""
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        texts = chart.render(values, name="decoder", namespace="lab")
    found = [one for text in texts.values() for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def pods(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = rendered(values)
    return {name: one["spec"]["template"]["spec"] for (kind, name), one in found.items() if kind == "Deployment"}


def test_the_chart_names_our_modules_and_settings() -> None:
    text = "".join(path.read_text() for path in CHART.glob("templates/*"))
    modules = re.findall(r'"module" "([a-z.]+)"', text)
    assert sorted(modules) == ["service", "workers.inference", "workers.ingest", "workers.jobs"]
    assert all(importlib.util.find_spec(module) for module in modules)
    for variable in re.findall(r"MINDSIGHT_([A-Z_]+)", text):
        assert variable.lower() in Settings.model_fields


@helm
def test_helm_finds_nothing_wrong() -> None:
    from helm_python import lint

    for values in (WHOLE, SMALL, BUCKET):
        report = lint(CHART, values, strict=True)
        assert report["errors"] == []
        assert [one for one in report["messages"] if one["severity"] > 1] == []


@helm
@pytest.mark.parametrize("values", [GIVEN, WHOLE, SMALL, BUCKET], ids=["least", "whole", "small", "bucket"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_it_makes_passes_kubernetes_schemas(values: dict[str, Any], version: str) -> None:
    import kubernetes_validate

    for one in rendered(values).values():
        if one["apiVersion"] != CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


@helm
@pytest.mark.parametrize("values", [WHOLE, SMALL], ids=["whole", "small"])
def test_a_process_is_locked_in_and_its_secret_is_a_reference(values: dict[str, Any]) -> None:
    found = pods(values)
    assert set(found) == {f"decoder-{part}" for part in ("gateway", "ingest", "inference", "jobs")}
    for pod in found.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "MINDSIGHT_REDIS_URL" not in {one["name"] for one in container["env"]}
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp", "/run/secrets"}
        secrets = {one["name"]: one for one in pod["volumes"]}["secrets"]["secret"]
        assert secrets["secretName"] == "decoder-redis"
        assert secrets["items"] == [{"key": "url", "path": "mindsight_redis_url"}]


@helm
def test_a_bucket_is_reached_by_all_and_its_credentials_are_a_file() -> None:
    found = pods(BUCKET)
    for pod in found.values():
        (container,) = pod["containers"]
        given = {one["name"]: one["value"] for one in container["env"]}
        assert given["MINDSIGHT_BLOBS_URL"] == "s3://lab/decoder"
        assert given["AWS_ENDPOINT_URL_S3"] == "https://s3.lab.example"
        assert given["AWS_SHARED_CREDENTIALS_FILE"] == "/run/bucket/credentials"
        assert {"name": "bucket", "mountPath": "/run/bucket", "readOnly": True} in container["volumeMounts"]
        assert {one["name"]: one for one in pod["volumes"]}["bucket"]["secret"]["secretName"] == "bucket"
    ports = [one["ports"][0]["port"] for one in rendered(BUCKET)["NetworkPolicy", "decoder"]["spec"]["egress"]]
    assert ports == [53, 6379, 443]
    assert "AWS_REGION" not in given
    assert not [one for one in pods(WHOLE)["decoder-gateway"]["containers"][0]["env"] if "AWS" in one["name"]]


@helm
def test_workers_are_scaled_by_what_waits_and_by_open_sessions() -> None:
    found = rendered(WHOLE)
    inference, ingest = (found["ScaledObject", f"decoder-{part}"]["spec"] for part in ("inference", "ingest"))
    with closing(Bus("unix:///nowhere")) as bus:
        streams = [WorkQueue(bus, name)._key("log") for name in ("inference", "pictures")]
    assert [one["metadata"]["stream"] for one in inference["triggers"]] == streams
    assert ingest["triggers"][0]["metadata"]["query"] == 'sum(mindsight_sessions{state="open"})'
    for part, scaled in (("inference", inference), ("ingest", ingest)):
        assert scaled["scaleTargetRef"] == {"name": f"decoder-{part}"}
        assert "replicas" not in found["Deployment", f"decoder-{part}"]["spec"]
        assert scaled["minReplicaCount"] == 1
    assert found["Deployment", "decoder-jobs"]["spec"]["replicas"] == 1


@helm
def test_a_card_is_asked_for_only_where_it_is_used() -> None:
    whole, small = pods(WHOLE)["decoder-inference"], pods(SMALL)["decoder-inference"]
    assert whole["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert whole["nodeSelector"] == {"card": "h200"}
    assert "nvidia.com/gpu" not in small["containers"][0]["resources"]["limits"]
    assert small["containers"][0]["image"] == "mindsight/worker-cpu:1.2.3"
    assert whole["containers"][0]["image"] == "mindsight/worker-gpu:1.2.3"


@helm
@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"image": {"tag": "1"}}, "secret"),
        ({"redis": {"secret": "a"}}, "tag"),
        ({**GIVEN, "inference": {"device": "cuda:0"}}, "device"),
        ({**GIVEN, "autoscaling": {"enabled": True}}, "prometheus"),
        ({**GIVEN, "blobs": {"url": "https://s3.lab.example/decoder"}}, "url"),
        ({**GIVEN, "gateway": {"ingress": {"enabled": True, "host": "a.example"}}}, "tlsSecret"),
    ],
)
def test_what_must_be_given_is_asked_for_by_name(values: dict[str, Any], named: str) -> None:
    from helm_python import Chart, HelmError

    def make() -> None:
        with Chart.load(CHART) as chart:
            chart.validate_schema(values)
            chart.render(values, name="decoder")

    with pytest.raises(HelmError, match=named):
        make()
