"""``python -m workers.ingest``: the ingest worker."""

import sys

from workers.ingest.worker import main

sys.exit(main())
