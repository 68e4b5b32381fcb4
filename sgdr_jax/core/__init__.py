"""Experiments: configuration, plan and serialization, and the types that all rooms share."""
