"""Model judges: a language model at an endpoint reads stored replies and votes."""
