"""The networks whose features the published metrics compare, in plain torch, from local weight files.

Knows nothing of metrics' arithmetic. ``loading`` imports torch and is imported where it is needed.
"""

from mindsight.evaluation.networks.catalog import NETWORKS, NetworkSpec

__all__ = ["NETWORKS", "NetworkSpec"]
