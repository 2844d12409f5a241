"""Adapters, which one is served, and the cycles that made them."""
