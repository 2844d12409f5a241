"""Cycles as the server sees them: when to start one, and how the last one went."""
