"""What a sweep has found: paired comparisons, intervals, pictures."""
