"""Recipes as stages, and the choices made for a set of images."""
