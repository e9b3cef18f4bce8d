"""Stands for PsychoPy where it is not installed: a screen that notes what is on it, and time that passes quickly.

Only what the examples use, with PsychoPy's names. Nothing of Mindsight's part is replaced.
"""
