"""Input logs → betas, one session per lease."""
