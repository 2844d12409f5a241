"""Commands about worlds of our own: simulated visitors, and the starter's model."""
