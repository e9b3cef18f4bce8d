"""The Python SDK: ``Console`` pushes a session to a gateway, ``Watch`` sees what happens in one."""

from mindsight.client.console import Ack, Console
from mindsight.client.watch import Watch

__all__ = ["Ack", "Console", "Watch"]
