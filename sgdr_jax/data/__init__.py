"""From an opened dataset to batches on the devices."""
