"""What the training stages share: their frame, checkpoints, memory and processes."""
