"""`python -m sgdr_jax` is the command line."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it with one line while it is still being imported, too."""
    try:
        from .cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
