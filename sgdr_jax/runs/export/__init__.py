"""Networks of finished runs in formats that need no sgdr_jax, a module for each format, each checked before it is given out."""
