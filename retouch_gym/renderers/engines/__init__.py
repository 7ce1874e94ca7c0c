"""Renderers that run a real photo editor: a recipe becomes the program's own edit file, the program the pixels."""
