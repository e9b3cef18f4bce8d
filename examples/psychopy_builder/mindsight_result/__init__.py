"""A component for PsychoPy's Builder: it waits for a trial's result, and offers it to the other components.

Copy the folder ``psychopy_builder`` and name it in Builder's preferences under "components folders". Put the component
in a routine after the one that shows the image. It declares the trial as an event, and while its routine runs it looks,
once a frame and without waiting, whether the result is there. Then ``NAME.decoded`` is the first candidate's id and
``NAME.confidence`` how sure that is; both are None until then, and for a trial without a result in time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from psychopy.experiment.components import BaseComponent, Param, getInitVals

_FIELDS = (
    ("trial", "$trials.thisN + 1", "Trial", "Number of the trial in its run, from 1"),
    ("onset", "$image.tStartRefresh", "Onset [s]", "When the image came on the screen, in seconds of the run"),
    ("shown_for", "$3.0", "Shown for [s]", "How long the image was shown"),
    ("candidate", "$image_file", "Candidate", "The image's id in the candidate pool, or its file"),
    ("run", "$1", "Run", "Number of the run, as mindsight stream declared it"),
    ("session", "ses-1", "Session", "Id of the open session"),
    ("stage", "fast", "Stage", "fast, revised or final"),
)


class MindsightResultComponent(BaseComponent):
    """Waits for what was decoded of a trial."""

    categories: ClassVar[list[str]] = ["Custom"]
    targets: ClassVar[list[str]] = ["PsychoPy"]
    iconFile = Path(__file__).parent / "icon.png"
    tooltip = "Mindsight: wait for what was decoded"

    def __init__(self, exp: Any, parentName: str, name: str = "mindsight", **given: Any) -> None:
        timing = {"startType": "time (s)", "startVal": "0.0", "stopType": "duration (s)", "stopVal": "3.0"}
        super().__init__(exp, parentName, name=name, **timing)
        self.type = "MindsightResult"
        self.url = "https://github.com/"
        exp.requirePsychopyLibs(["core"])
        for field, default, label, hint in _FIELDS:
            self.params[field] = Param(
                given.get(field, default), valType="str", inputType="single", updates="constant", label=label, hint=hint
            )

    def writeInitCode(self, buff: Any) -> None:
        """Before the experiment: one connection for all trials. Address and key are in the environment."""
        names = getInitVals(self.params)
        buff.writeIndentedLines(
            "import os\n"
            "from mindsight.client import Console, Session\n"
            f"{names['name']} = type('MindsightResult', (), {{'decoded': None, 'confidence': None}})()\n"
            f"{names['name']}.session = Session(os.environ['MINDSIGHT_URL'], os.environ['MINDSIGHT_KEY'],"
            f" {names['session']})\n"
            f"{names['name']}.session.follow()\n"
            f"{names['name']}.console = Console(os.environ['MINDSIGHT_URL'], os.environ['MINDSIGHT_KEY'],"
            f" session={names['session']})\n"
        )

    def writeRoutineStartCode(self, buff: Any) -> None:
        """The image was shown: declare it."""
        names = getInitVals(self.params)
        buff.writeIndentedLines(
            f"{names['name']}.decoded = {names['name']}.confidence = None\n"
            f"{names['name']}.console.add_event({names['run']}, trial={names['trial']}, onset_s={names['onset']},"
            f" duration_s={names['shown_for']}, candidate={names['candidate']})\n"
        )

    def writeFrameCode(self, buff: Any) -> None:
        """Once a frame: look, and never wait."""
        names = getInitVals(self.params)
        buff.writeIndentedLines(
            f"if {names['name']}.decoded is None:\n"
            f"    _found = {names['name']}.session.latest({names['trial']}, {names['stage']}, run={names['run']})\n"
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

    def writeExperimentEndCode(self, buff: Any) -> None:
        names = getInitVals(self.params)
        buff.writeIndentedLines(f"{names['name']}.session.close()\n{names['name']}.console.close()\n")
