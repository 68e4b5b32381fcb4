"""Uploads a finished export to the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

from ...core.errors import InputError
from ...core.validation import require

_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def check(repository: str) -> None:
    """Check what is known before an upload. Raises InputError for a name without owner, or if huggingface_hub is not installed."""
    require(bool(_NAME.fullmatch(repository)), "push", repository, "use OWNER/NAME, such as me/flowers")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(f"push is {repository!r}; install its package with: pip install 'sgdr_jax[hub]'")


def push(folder: Path, repository: str) -> str:
    """Upload the files of a folder as one commit to a model repository, which is created private where it does not exist.

    Endpoint and token are those of huggingface_hub: `hf auth login`, or the variables HF_TOKEN and HF_ENDPOINT.

    Args:
        folder: the export.
        repository: OWNER/NAME.

    Returns:
        Address of the repository.

    Raises:
        InputError: the hub cannot be reached, or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload the network")
    except Exception as error:  # the hub's errors and those of its HTTP client share no base class
        reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
        later = f"the export is in {folder}; later, run: hf upload {repository} {shlex.quote(str(folder))}"
        raise InputError(f"push is {repository!r}; it was not uploaded ({reason}); {later}") from error
    return str(address)
