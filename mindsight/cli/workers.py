from __future__ import annotations

from mindsight.cli.become import become


def ingest() -> None:
    """Run one ingest worker: motion correction and betas."""
    become("ingest", "workers.ingest")


def work() -> None:
    """Run one worker for jobs: calibrations, pools, erasures."""
    become("work", "workers.jobs")


def infer() -> None:
    """Run one inference worker: retrieval and reconstructions."""
    become("infer", "workers.inference")
