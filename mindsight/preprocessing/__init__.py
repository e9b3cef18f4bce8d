"""From a volume to the voxels that matter, in the subject's space: realignment, masks, quality figures.

Knows nothing of events, models or the network. What is used once per session is imported from its own file:
``register`` (between sessions) and ``figures.pose`` (its image).
"""

from mindsight.preprocessing.mask import brain_mask
from mindsight.preprocessing.motion.aligned import Aligned
from mindsight.preprocessing.motion.realign import Realigner
from mindsight.preprocessing.quality.figures import Quality, QualityFigures
from mindsight.preprocessing.registration.average_reference import average_reference

__all__ = ["Aligned", "Quality", "QualityFigures", "Realigner", "average_reference", "brain_mask"]
