"""A world for any model: ordinary requests, tastes that a program checks exactly, visitors."""
