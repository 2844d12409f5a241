"""Questions whose replies a program can check, asked in every cycle; no vote can move them."""
