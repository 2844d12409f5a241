"""Is a policy more helpful, and more harmless? Requests for both, and who compares two replies."""
