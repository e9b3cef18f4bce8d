"""PsychoPy finds components in a folder of the same name within the one that its preferences name."""
