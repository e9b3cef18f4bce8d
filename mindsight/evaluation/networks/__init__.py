"""The networks whose features the published metrics compare: torchvision's and CLIP, from local weight files.

Knows nothing of metrics' arithmetic. ``loading`` imports torch and torchvision, and is imported where it is needed.
"""

from mindsight.evaluation.networks.catalog import NETWORKS, NetworkSpec

__all__ = ["NETWORKS", "NetworkSpec"]
