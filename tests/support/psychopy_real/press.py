"""For PsychoPy's Python: presses a key on the screen DISPLAY once a second, as a scanner does, until it is ended."""

from __future__ import annotations

import sys
import time

from Xlib import XK, X, display
from Xlib.ext import xtest

screen = display.Display()
code = screen.keysym_to_keycode(XK.string_to_keysym(sys.argv[1]))
while True:
    time.sleep(1.0)
    for event in (X.KeyPress, X.KeyRelease):
        xtest.fake_input(screen, event, code)
        screen.sync()
