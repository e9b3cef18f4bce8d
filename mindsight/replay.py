"""Its name before the house was rebuilt, for one version: see ``mindsight.ingest.feed``."""

from mindsight.ingest.feed import number_trials

__all__ = ["number_trials"]
