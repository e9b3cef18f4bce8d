"""``python -m training.distillation CONFIG``, which ``torchrun`` may start once for each card."""

import sys

from training.distillation.command import main

sys.exit(main())
