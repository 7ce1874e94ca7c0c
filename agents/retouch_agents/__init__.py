"""Multimodal agents that retouch photos, and their training on Ray RLlib."""
