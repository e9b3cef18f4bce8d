"""A component for PsychoPy's Builder: it waits for a trial's result, and offers it to the other components.

Name the outer folder ``psychopy_builder`` in Builder's preferences under "components folders". Put the component in a
routine after the one that shows the image. It declares the trial as an event, and while its routine runs it looks, once
a frame and without waiting, whether the result is there. Then ``NAME.decoded`` is the first candidate's id and
``NAME.confidence`` how sure that is; both are None until then, and for a trial without a result in time. The service
may be away meanwhile: the experiment goes on, and the events are sent when it is back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from psychopy.experiment.components import BaseComponent, Param, getInitVals

# name, value, kind of value ("code" is Python, "str" a text unless it begins with $), label, hint
_FIELDS = (
    ("trial", "trials.thisN + 1", "code", "Trial", "Number of the trial in its run, from 1"),
    ("onset", "image.tStartRefresh", "code", "Onset [s]", "When the image came on the screen"),
    ("began", "trigger.tStop", "code", "Run began [s]", "When the first volume began, on the same clock: the end of the"
     " routine that waits for the scanner's trigger"),
    ("shown_for", "3.0", "code", "Shown for [s]", "How long the image is shown"),
    ("candidate", "$image_file", "str", "Candidate", "The image's id in the candidate pool"),
    ("run", "1", "code", "Run", "Number of the run, as mindsight stream declares it"),
    ("session", "ses-1", "str", "Session", "Id of the open session"),
    ("stage", "fast", "str", "Stage", "fast, revised or final"),
)  # fmt: skip


class MindsightResultComponent(BaseComponent):
    """Waits for what was decoded of a trial."""

    categories: ClassVar[list[str]] = ["Custom"]
    targets: ClassVar[list[str]] = ["PsychoPy"]
    iconFile = Path(__file__).parent / "icon.png"
    tooltip = "Mindsight: wait for what was decoded"

    def __init__(
        self,
        exp: Any,
        parentName: str,
        name: str = "mindsight",
        startType: str = "time (s)",
        startVal: str = "0.0",
        stopType: str = "duration (s)",
        stopVal: str = "3.0",
        **given: Any,
    ) -> None:
        fields = {field: given.pop(field, value) for field, value, *_ in _FIELDS}
        timing = {"startType": startType, "startVal": startVal, "stopType": stopType, "stopVal": stopVal}
        super().__init__(exp, parentName, name=name, **timing, **given)
        self.type = "MindsightResult"
        for field, _, kind, label, hint in _FIELDS:
            self.params[field] = Param(
                fields[field], valType=kind, inputType="single", updates="constant", label=label, hint=hint
            )

    def writeInitCode(self, buff: Any) -> None:
        """Before the experiment: one connection for all trials. Address and key are in the environment."""
        names = getInitVals(self.params)
        buff.writeIndentedLines(
            "from os import environ as _environ\n"  # this is within a function: another os would hide PsychoPy's
            "from mindsight.client import Console, EventSender, Session\n"
            "from mindsight.errors import MindsightError\n"
            f"{names['name']} = type('MindsightResult', (), {{'status': NOT_STARTED}})()\n"
            f"{names['name']}.decoded = {names['name']}.confidence = None\n"
            "_mindsight_at = _environ['MINDSIGHT_URL'], _environ['MINDSIGHT_KEY']\n"
            f"{names['name']}.session = Session(*_mindsight_at, {names['session']})\n"
            f"{names['name']}.session.follow()\n"
            f"{names['name']}.console = Console(*_mindsight_at, session={names['session']})\n"
            f"{names['name']}.events = EventSender({names['name']}.console)\n"
        )

    def writeRoutineStartCode(self, buff: Any) -> None:
        """The image was shown: declare it."""
        names = getInitVals(self.params)
        buff.writeIndentedLines(
            f"{names['name']}.decoded = {names['name']}.confidence = None\n"
            f"{names['name']}.events.add_event({names['run']}, trial={names['trial']},"
            f" onset_s=float({names['onset']} - ({names['began']})),"
            f" duration_s={names['shown_for']}, candidate={names['candidate']})\n"
        )

    def writeFrameCode(self, buff: Any) -> None:
        """Once a frame: look, and never wait."""
        names = getInitVals(self.params)
        for write_test in (self.writeStartTestCode, self.writeStopTestCode):  # without them a routine ends at once
            indented = write_test(buff)
            buff.setIndentLevel(-indented, relative=True)
        buff.writeIndentedLines(
            f"if {names['name']}.status == STARTED and {names['name']}.decoded is None:\n"
            "    try:\n"
            f"        _found = {names['name']}.session.latest({names['trial']}, {names['stage']}, run={names['run']})\n"
            "    except MindsightError:\n"
            "        _found = None\n"
            "    if _found is not None:\n"
            f"        {names['name']}.decoded = _found.candidates[0].id\n"
            f"        {names['name']}.confidence = _found.confidence\n"
        )

    def writeRoutineEndCode(self, buff: Any) -> None:
        names = getInitVals(self.params)
        buff.writeIndentedLines(
            f"thisExp.addData('{names['name']}.decoded', {names['name']}.decoded)\n"
            f"thisExp.addData('{names['name']}.confidence', {names['name']}.confidence)\n"
        )
        super().writeRoutineEndCode(buff)

    def writeExperimentEndCode(self, buff: Any) -> None:
        """Events that the service has not taken are named in PsychoPy's own log."""
        names = getInitVals(self.params)
        buff.writeIndentedLines(
            f"for _event in {names['name']}.events.close():\n"
            "    logging.error(f'Mindsight did not take {_event}')\n"
            f"for _event, _why in {names['name']}.events.refused:\n"
            "    logging.error(f'Mindsight refused {_event}: {_why}')\n"
            f"{names['name']}.session.close()\n{names['name']}.console.close()\n"
        )
