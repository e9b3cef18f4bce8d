"""``python deploy/grafana/make.py``: writes ``mindsight.json``, a dashboard to import into Grafana."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PANELS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("Sessions", "short", [("mindsight_sessions", "{{state}}")]),
    ("Volumes per second", "short", [('rate(mindsight_messages_total{type="volume.processed"}[1m])', "processed")]),
    (
        "Steps, 99th percentile",
        "s",
        [("histogram_quantile(0.99, sum by (le, step) (rate(mindsight_latency_seconds_bucket[5m])))", "{{step}}")],
    ),
    (
        "Jobs that wait",
        "short",
        [("mindsight_queue_jobs", "{{queue}}"), ("mindsight_dead_jobs", "{{queue}}, given up")],
    ),
    ("Warnings per minute", "short", [("60 * sum by (code) (rate(mindsight_warnings_total[5m]))", "{{code}}")]),
    ("Requests per second", "reqps", [("sum by (status) (rate(mindsight_requests_total[1m]))", "{{status}}")]),
    (
        "Requests, 95th percentile",
        "s",
        [("histogram_quantile(0.95, sum by (le, route) (rate(mindsight_request_seconds_bucket[5m])))", "{{route}}")],
    ),
    ("Bus and disk", "short", [("mindsight_bus_up", "bus"), ("mindsight_disk_free_bytes / 1e9", "free, GB")]),
]


def dashboard() -> dict[str, Any]:
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(65 + k), "expr": expression, "legendFormat": legend}
                for k, (expression, legend) in enumerate(queries)
            ],
        }
        for number, (title, unit, queries) in enumerate(PANELS)
    ]
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "mindsight",
        "title": "Mindsight",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def main() -> int:
    path = Path(__file__).with_name("mindsight.json")
    path.write_text(json.dumps(dashboard(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
