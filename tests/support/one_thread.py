"""One thread for the numerical libraries, as in the service's processes (``mindsight.operations.supervisor.THREADS``).

What is computed in a test and what a process of the service computed are then the same bits, and the processes of a
test run do not wait for each other's threads. What the environment asks for stands, as where ``make test-portable``
asks for two.
"""

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
