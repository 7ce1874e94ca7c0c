"""Environments and their registration with Gymnasium."""
