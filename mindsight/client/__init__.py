"""The SDK: ``Console`` sends a session in, ``Watch`` follows what happens in it."""

from mindsight.client.console import Acknowledged, Console
from mindsight.client.watch import Watch

__all__ = ["Acknowledged", "Console", "Watch"]
