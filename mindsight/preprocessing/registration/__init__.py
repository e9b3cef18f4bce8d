"""Between sessions: one head registered to another."""
