"""From comparisons to scores: the reward model, its data, its losses and how sure it may be."""
