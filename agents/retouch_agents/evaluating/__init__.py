"""Trained policies beside each other on tasks that they were not trained on: `retouch-gym evaluate`."""
