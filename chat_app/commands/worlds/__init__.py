"""Commands about worlds of our own: visitors, the starter's model, InstructGPT's claims."""
