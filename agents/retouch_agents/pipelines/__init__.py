"""Trainings that need a policy and a judge at once."""
