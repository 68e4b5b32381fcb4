"""`sgdr-jax clean`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ...core.console import NullConsole
from ...core.errors import Preempted
from ...core.files import write_output
from ...core.validation import require
from ..predictions import PredictorCommand

if TYPE_CHECKING:
    from ...report.suspects import SuspectRow
    from ...runs.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class CleanCommand(PredictorCommand):
    """Find labels that are probably wrong, by confident learning on held-out or out-of-fold probabilities.

    Writes RUN/clean/suspects.csv, and suspects.html with thumbnails, on which one decides. Images and labels on the disk stay as they are.
    On SIGTERM or SIGUSR1 the training of a fold saves its state, and the command exits with 75.
    """

    arguments = "DIR"
    resumable = True

    run: tyro.conf.Positional[Path]
    """The run folder."""
    folds: int = 0
    """Number of parts of the training and validation images, each predicted by a network that is trained without it, as the run was. 0:
    only the images that the run has held out."""
    apply: Path | None = None
    """CSV file with decisions (columns name, decision, suggested) from which to write an experiment that leaves images out or relabels
    them."""
    out: Path | None = None
    """Experiment file to write with --apply."""

    def execute(self, ui: NullConsole) -> None:
        """Write the suspects, or the experiment of the decisions."""
        require(self.folds == 0 or self.folds >= 2, "--folds", self.folds, "use 2 or more, or 0 for held-out images only")
        if self.apply:
            fix = "it is for the search for suspects, and --apply takes decisions about those found; leave one out"
            require(not self.folds, "--folds", self.folds, fix)
            require(not self.network, "--network", self.network, fix)
            require(self.tta_views is None, "--tta-views", self.tta_views, fix)
            self._apply(self.apply, ui)
        else:
            require(self.out is None, "--out", str(self.out), "it is the experiment of --apply; suspects are written to RUN/clean")
            self._find(ui)

    def _find(self, ui: NullConsole) -> None:
        from ...core.files import write_atomically
        from ...distributed.preemption import handle_signals
        from ...evaluation.confident_learning import find_suspects
        from ...report.suspects import suspect_rows, suspects_csv, suspects_html
        from ...runs.environment import git_commit
        from ...runs.out_of_fold import held_out, out_of_fold

        net, folder = self.open_predictor(), self.run / "clean"
        if self.folds:
            commit = git_commit(self.experiment) if self.experiment else None
            again = "to continue, repeat the command: folds that have finished are kept"
            try:
                with handle_signals() as leave:
                    predictions = out_of_fold(net, self.folds, folder, self.tta_views, ui, commit, leave)
            except KeyboardInterrupt:
                ui.say(again)
                raise
            except Preempted as error:  # of a training, which advises what this command has no option for
                raise Preempted(f"{str(error).partition('; ')[0]}; {again}") from error
        else:
            predictions = held_out(net, self.tta_views, ui)
        suspects = find_suspects(predictions.probabilities, predictions.labels)
        rows = suspect_rows(suspects, predictions.names, net.classes, predictions.labels, predictions.probabilities)
        folder.mkdir(exist_ok=True)
        write_atomically(folder / "suspects.csv", suspects_csv(rows, net.multi_label).encode("utf-8", "surrogateescape"))
        pictures = _pictures(net, rows)
        write_atomically(folder / "suspects.html", suspects_html(rows, pictures, len(predictions.names), net.multi_label, str(self.run)))
        ui.say(f"{len(rows):,} of {len(predictions.names):,} labels are suspect: {folder / 'suspects.csv'}")
        ui.say(f"page: {folder / 'suspects.html'}")

    def _apply(self, decisions: Path, ui: NullConsole) -> None:
        import dataclasses

        from ... import augment, datasets, models, schedules  # noqa: F401  # from_json finds types that are imported
        from ...core.serialization import from_json
        from ...datasets import Corrected
        from ...report.suspects import read_decisions
        from ...runs.folder import read
        from ..experiment_file import check_new_file, load_parts

        require(self.out is not None, "--out", "", "name the experiment file to write, with .py")
        assert self.out is not None
        check_new_file(self.out, "--out")
        original = from_json(read(self.run).config, load_parts(self.experiment))
        drop, labels = read_decisions(decisions, original.data.open().multi_label)
        data = Corrected(original.data, drop, labels)
        before, after = original.data.open().sizes, data.open().sizes  # raises InputError for what does not fit
        dataclasses.replace(original, data=data)
        text = _FILE.format(
            drop=len(drop),
            relabel=len(labels),
            run=str(self.run.resolve()),
            parts=f", load_parts({str(self.experiment.resolve())!r})" if self.experiment else "",
            extra="from sgdr_jax.cli.experiment_file import load_parts\n" if self.experiment else "",
            names=_lines(drop),
            labels=_lines(labels),
        )
        write_output(self.out, text)
        sizes = ", ".join(f"{n:,} of {before[split]:,} {split}" for split, n in after.items())
        ui.say(f"written: {self.out}: {len(labels):,} labels changed, {len(drop):,} images left out ({sizes} images remain)")


_FILE = '''"""An experiment again, with {drop} images left out and {relabel} labels changed. Written by sgdr-jax clean."""

from dataclasses import replace

from sgdr_jax import augment, datasets, models, schedules  # noqa: F401  # the types that the configuration names
{extra}from sgdr_jax.core.serialization import from_json
from sgdr_jax.runs.folder import read

original = from_json(read({run!r}).config{parts})
experiment = replace(
    original,
    name=f"{{original.name}}-clean",
    data=datasets.Corrected(
        original.data,
        drop=({names}),
        labels=({labels}),
    ),
)
'''


def _lines(values: Sequence[object]) -> str:
    """Return the inside of a tuple, a line for each value."""
    return "".join(f"\n            {value!a}," for value in values) + ("\n        " if values else "")


def _pictures(net: Predictor, rows: Sequence[SuspectRow]) -> dict[str, bytes]:
    """Return thumbnails of the suspects that the page shows, by name."""
    from ...data.thumbnails import thumbnails
    from ...report.suspects import MOST_SHOWN

    wanted, pictures = {row.name for row in rows[:MOST_SHOWN]}, dict[str, bytes]()
    source = net.experiment.data.open()
    for split, names in source.names.items():
        where = {i: name for i, name in enumerate(names) if name in wanted}
        pictures |= {where[i]: jpeg for i, jpeg in thumbnails(source.items[split], list(where), resize=net.experiment.resize).items()}
    return pictures
