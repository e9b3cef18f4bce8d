"""``python -m workers.jobs``: a worker for jobs."""

import sys

from workers.jobs.worker import main

sys.exit(main())
