"""The main job: build a tiny agent, teach it, reinforce it, and show on held-out photos what it learned."""
