"""`retouch-gym train`: a run of several stages described by one YAML file that a person can read."""
