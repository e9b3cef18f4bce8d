"""From a volume to the voxels that matter, in the subject's space: realignment, masks, quality figures.

Knows nothing of events, models or the network. What is used once per session is imported from where it is: ``register``
(between sessions) and ``draw`` (its picture).
"""

from mindsight.preprocessing.aligned import Aligned
from mindsight.preprocessing.average import average_reference
from mindsight.preprocessing.mask import brain_mask
from mindsight.preprocessing.quality import Quality, QualityFigures
from mindsight.preprocessing.realign import Realigner

__all__ = ["Aligned", "Quality", "QualityFigures", "Realigner", "average_reference", "brain_mask"]
