"""From a volume to the voxels that matter, in the subject's space: realignment, masks, quality figures.

Knows nothing of events, models or the network.
"""

from mindsight.preprocessing.aligned import Aligned
from mindsight.preprocessing.mask import brain_mask
from mindsight.preprocessing.quality import Quality, QualityFigures
from mindsight.preprocessing.realign import Realigner

__all__ = ["Aligned", "Quality", "QualityFigures", "Realigner", "brain_mask"]
