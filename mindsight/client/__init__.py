"""The Python SDK: ``Console`` pushes a session to a gateway, ``Watch`` sees what happens in one, ``Enrolment`` has the
subjects and their calibrations.
"""

from mindsight.client.console import Ack, Console
from mindsight.client.enrolment import Enrolment
from mindsight.client.watch import Watch

__all__ = ["Ack", "Console", "Enrolment", "Watch"]
