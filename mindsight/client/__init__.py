"""The Python SDK: ``Console`` pushes a session to a gateway, ``EventSender`` declares events without waiting, ``Watch``
sees what happens in one, ``Enrolment`` has the subjects and their calibrations, ``Session`` waits for results and makes
tables and figures of them, ``AsyncSession`` awaits them, ``Service`` has the sessions and a simulated one.
"""

from mindsight.client.asynchronous import AsyncSession
from mindsight.client.console import Ack, Console
from mindsight.client.enrolment import Enrolment
from mindsight.client.event_sender import EventSender
from mindsight.client.service import Service
from mindsight.client.session import Session
from mindsight.client.watch import Watch

__all__ = ["Ack", "AsyncSession", "Console", "Enrolment", "EventSender", "Service", "Session", "Watch"]
