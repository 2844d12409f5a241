"""What is computed for each claim from the replies of all policies; no model is loaded here."""
