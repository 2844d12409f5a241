"""Adapters, which one is served, the cycles that made them, and alarms."""
