"""Who the raters are, and how much each counts."""
