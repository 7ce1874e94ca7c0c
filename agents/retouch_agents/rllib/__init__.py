"""GRPO for multimodal agents as an algorithm of Ray RLlib (new API stack)."""
