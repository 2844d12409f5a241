"""Is the candidate better? Measure it, then promote or reject it, with reasons."""
