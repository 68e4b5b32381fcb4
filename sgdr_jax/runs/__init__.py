"""One run of an experiment: its folder, checkpoints, resume, ensembles and final numbers."""
