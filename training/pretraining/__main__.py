"""``python -m training.pretraining CONFIG``, which ``torchrun`` may start once for each card."""

import sys

from training.pretraining.command import main

sys.exit(main())
