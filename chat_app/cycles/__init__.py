"""When the server starts a cycle, and the state of the last one. Training is in `rlhf_core`."""
