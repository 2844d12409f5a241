"""From what raters said to comparisons, and back from an event to what became of it."""
