"""The embedded model and its small world: facts, a flawed corpus, simulated raters, a judge."""
