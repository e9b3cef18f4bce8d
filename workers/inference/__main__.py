"""``python -m workers.inference``: the inference worker."""

import sys

from workers.inference.worker import main

sys.exit(main())
