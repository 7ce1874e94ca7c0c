"""Recipes: the non-destructive edit so far, as plain data."""

from retouch_gym.recipes.plan import plan_of
from retouch_gym.recipes.recipe import Recipe

__all__ = ["Recipe", "plan_of"]
