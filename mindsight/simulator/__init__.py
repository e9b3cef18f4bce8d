"""A simulated scanner, participant and experiment, for demos, tests and load."""
