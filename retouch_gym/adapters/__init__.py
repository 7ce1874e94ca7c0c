"""Adapters: the environment inside other people's training frameworks, each importable without its framework."""
