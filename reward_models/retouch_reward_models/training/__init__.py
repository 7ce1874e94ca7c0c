"""Training judges: pairs of a better and a worse edit, the right verdict about them, and an environment."""
