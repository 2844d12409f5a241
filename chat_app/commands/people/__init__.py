"""Commands about those who vote: people, their keys and their wishes, and model judges."""
