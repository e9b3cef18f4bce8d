"""Ways of running a generator's networks fast: eager, compiled, ONNX, TensorRT. One interface, one file each.

Knows nothing of tokens, brains or sessions. ``registry`` imports an engine by its name; nothing else does, since each
brings packages that not every machine has.
"""
