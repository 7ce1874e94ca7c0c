"""How far two photos are apart, and what can be said of one alone. Pure functions; rewards are made of them."""
