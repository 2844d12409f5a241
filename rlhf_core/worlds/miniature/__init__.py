"""The world in which InstructGPT's comparisons are repeated in miniature."""
