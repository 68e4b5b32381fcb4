"""Trackers: what shows the rows of metrics.jsonl elsewhere, while a run writes them. A file for each, and one line in `tracking`."""
