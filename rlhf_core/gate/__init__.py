"""Measure the candidate against the served policy, then promote or reject it, with reasons."""
