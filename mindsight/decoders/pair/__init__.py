"""Two decoders of one subject as one: the first ranks, the second gives what images are generated from."""
