"""Where the small models lie that ship with Mindsight."""

from pathlib import Path

DEMO = Path(__file__).resolve().parent / "demo"
ENCODER = DEMO / "encoder"
GENERATOR = DEMO / "generator"
MINDEYE2 = DEMO / "mindeye2"
BUNDLE = DEMO / "bundle"
