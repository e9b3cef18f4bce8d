"""The course of a training, whatever is trained: configuration, processes, steps, checkpoints, metrics."""
