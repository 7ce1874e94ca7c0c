"""Renderers: a source photo and a recipe in, pixels out."""

from retouch_gym.renderers.base import RENDERERS, Rendered, Renderer, get_renderer

__all__ = ["RENDERERS", "Rendered", "Renderer", "get_renderer"]
