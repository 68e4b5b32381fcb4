"""Weights of published networks: locating, reading and loading them."""
