"""When a cycle starts, how the last one went, and alarms. Training is in `rlhf_core`."""
