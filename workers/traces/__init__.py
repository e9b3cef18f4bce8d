"""Traces of volumes for OpenTelemetry: a process that reads the sessions' messages, and that nothing waits for."""
