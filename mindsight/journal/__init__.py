"""A session's two logs, inputs and messages: how they are declared and read, and the list of sessions."""
