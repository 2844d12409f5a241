"""How much each rater counts: standing, agreement, behaviour, reliability and caps."""
