"""`sgdr-jax export`: files for a finished run, from the command line and from a session."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import sgdr_jax
from sgdr_jax.cli.main import main
from sgdr_jax.core.console import NullConsole
from sgdr_jax.runs.export import network, stablehlo


def test_a_run_is_exported_with_its_figures(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["export", str(run_folder), "--to", "stablehlo", "--out", str(tmp_path / "out")]
    main(words)
    assert "images the logits differ by at most" in capsys.readouterr().out
    session = sgdr_jax.load(run_folder)
    images = network.sample(session._predictor)
    np.testing.assert_allclose(
        stablehlo.read(session._predictor, tmp_path / "out", images), network.expected(session._predictor, images), atol=1e-4
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| valid | {session.report().value['valid']['accuracy']:.4f} |" in card and '"blue", "green", "red"' in card
    assert "out is" in fails(*words) and "it is there already" in fails(*words)
    assert "timm has no network with these tensors" in fails("export", run_folder, "--to", "safetensors")
    assert "push is 'rings'; use OWNER/NAME" in fails("export", run_folder, "--to", "stablehlo", "--push", "rings")
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        kept = str(tmp_path / "kept")
        told = fails("export", run_folder, "--to", "stablehlo", "--out", kept, "--push", "me/rings")
    assert told.rstrip().endswith(f"the export is in {kept}; later, run: hf upload me/rings {kept}") and len([*Path(kept).iterdir()]) == 4
    done = sgdr_jax.Session(session.experiment, folder=run_folder, ui=NullConsole()).export("stablehlo", tmp_path / "again")
    assert done.value.files == ("README.md", "classes.json", "images.py", "model.stablehlo") and "differ by at most" in repr(done)
