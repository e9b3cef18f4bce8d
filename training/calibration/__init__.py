"""Calibration of one participant: from recorded runs to a subject bundle."""
