"""Real-time motion estimation and resampling."""
