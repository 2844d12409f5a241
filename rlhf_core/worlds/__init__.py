"""The worlds that the project measures itself in: requests, simulated visitors, an exact judge."""
