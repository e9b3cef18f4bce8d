"""What arrives of a scanner's data, in any order and mixed → runs of whole volumes, in order.

Knows nothing of transports; time is passed in.
"""
