"""``python -m workers.traces``: sends traces to ``OTEL_EXPORTER_OTLP_ENDPOINT``."""

import sys

from workers.traces.process import main

sys.exit(main())
