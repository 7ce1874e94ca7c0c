"""Learned rewards for retouch-gym: judges and generalist reward models (none in this release yet)."""
