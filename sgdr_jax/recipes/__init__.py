"""The fine-tuning recipe as stages, and its settings chosen for a set of images."""
