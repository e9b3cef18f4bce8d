"""``python -m training.calibration``: calibration from recorded runs."""

import sys

from training.calibration.command import main

sys.exit(main())
