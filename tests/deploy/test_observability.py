"""Alerts and the dashboard ask for metrics that exist, and every alert has its page."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mindsight.bus import Bus
from mindsight.settings import Settings
from service.metrics import Meter

ROOT = Path(__file__).resolve().parents[2]
RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of every metric, as Prometheus stores them."""
    folder = tmp_path_factory.mktemp("metrics")
    text = Meter(Bus.from_settings(Settings(data_dir=folder)), folder).scrape().decode()
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {family.name + ending for family in text_string_to_metric_families(text) for ending in endings[family.type]}


def asked(expression: str) -> set[str]:
    return set(re.findall(r"mindsight_[a-z_]+", re.sub(r'"[^"]*"', "", expression)))


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_asks_for_what_is_there_and_has_its_page(rule: dict[str, Any], names: set[str]) -> None:
    assert asked(rule["expr"]) <= names
    assert asked(rule["expr"]) or rule["expr"].startswith("up{")
    assert rule["labels"]["severity"] in {"page", "warn"}
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_the_runbook_has_no_page_without_an_alert() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]


def test_the_dashboard_is_the_one_that_is_made_and_asks_for_what_is_there(names: set[str]) -> None:
    made = runpy.run_path(str(ROOT / "deploy/grafana/make.py"))["dashboard"]()
    assert json.loads((ROOT / "deploy/grafana/mindsight.json").read_text()) == made
    expressions = [target["expr"] for panel in made["panels"] for target in panel["targets"]]
    assert {name for expression in expressions for name in asked(expression)} <= names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_prometheus_own_tool_finds_the_alerts_right() -> None:
    subprocess.run(["promtool", "test", "rules", "alerts_test.yml"], cwd=ROOT / "deploy/prometheus", check=True)
