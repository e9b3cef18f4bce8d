"""Voxels and events in, single-trial betas out, while the run continues.

Knows nothing of volumes, files, sessions or time of day: one row of voxel values per TR.
"""

from mindsight.glm.design import Event
from mindsight.glm.normalise import Normaliser, Statistics, WarmUp
from mindsight.glm.streaming import StreamingGLM

__all__ = ["Event", "Normaliser", "Statistics", "StreamingGLM", "WarmUp"]
