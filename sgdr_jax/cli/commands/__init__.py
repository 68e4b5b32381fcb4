"""What the larger commands do, one file each; `cli` has the others."""
