"""A scanner, a participant and an experiment that do not exist, for demos, tests and load."""
