"""Runs when the kernel of a page starts: makes `%%bash` show its output as one block, and stop at the first error."""

import subprocess

from IPython.core.magic import register_cell_magic


@register_cell_magic
def bash(line: str, cell: str) -> None:
    """Run a cell with bash; IPython's own magic shows its output in pieces of 100 characters."""
    done = subprocess.run(["bash", "-e", "-c", cell], capture_output=True, text=True)
    print(done.stdout, end="")
    if done.returncode:
        raise RuntimeError(done.stderr)
