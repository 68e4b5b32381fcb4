"""What an experiment is: its parts, the plan worked out from it, and the types that every room shares."""
