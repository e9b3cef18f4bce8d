"""Between sessions: one head placed on another."""
