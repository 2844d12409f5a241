"""Model judges: who they are, what they answered, and the report that finds a biased one."""
