"""InstructGPT's comparisons in miniature: the same claims, bars fixed before anything is run."""
