"""Its name before the house was rebuilt, for one version: see ``mindsight.operations.supervisor``."""

from mindsight.operations.supervisor import Supervisor, environment

__all__ = ["Supervisor", "environment"]
