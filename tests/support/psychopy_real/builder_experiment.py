"""For PsychoPy's Python: an experiment made as Builder makes it, of a trigger, images, and the component that waits.

``python builder_experiment.py SESSION COMPONENTS CONDITIONS.csv OUT.py``
"""

from __future__ import annotations

import sys
from pathlib import Path

from psychopy import experiment
from psychopy.experiment import components
from psychopy.experiment.loops import TrialHandler

session, folder, conditions, out = sys.argv[1:]
known = components.getAllComponents([folder])
made = experiment.Experiment()
for name, value in {"Show info dlg": False, "Full-screen window": False}.items():
    made.settings.params[name].val = value
routines = {}
for name in ("trigger", "show", "answer"):
    routines[name] = made.addRoutine(name)
    made.flow.addRoutine(routines[name], len(made.flow))


def add(kind: str, routine: str, **given: object) -> None:
    component = known[kind](made, routine, **given)
    if kind == "ImageComponent":
        component.params["image"].updates = "set every repeat"
    routines[routine].addComponent(component)


# in place of the scanner's pulse, half a second: this display gives Builder's keyboards no keys
add("TextComponent", "trigger", name="fixation", text="+", stopVal="0.5")
add("ImageComponent", "show", name="image", image="$image_file", stopVal="0.5")
add("MindsightResultComponent", "answer", name="decoder", session=session, candidate="$scene", shown_for="0.5")
made.flow.addLoop(TrialHandler(made, "trials", loopType="sequential", nReps=1, conditionsFile=conditions), 1, 3)
Path(out).write_text(made.writeScript(out))
