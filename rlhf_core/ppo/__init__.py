"""PPO: the trainer, its critic, advantages and losses, and what limits how far a policy moves."""
