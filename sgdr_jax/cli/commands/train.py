"""`sgdr-jax train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...core.console import NullConsole
from ...core.errors import Preempted
from ...core.validation import require
from ...runs.trackers.tracking import TrackerName, Tracking
from ..options import ExperimentCommand, new_run_folder

if TYPE_CHECKING:
    from ...core.experiment import Experiment
    from ...train.context import RunContext


@dataclass(frozen=True)
class Hosts:
    """How the processes of a run find each other. Detected under Slurm, Open MPI, on TPU slices and in Kubernetes jobs."""

    coordinator: str | None = None
    """HOST:PORT of host 0, where no cluster is detected."""
    count: int | None = None
    """Number of processes."""
    index: int | None = None
    """Number of this process, from 0."""
    cluster: Literal["Slurm", "Open MPI", "TPU", "Kubernetes"] | None = None
    """Cluster, where it is not detected: TPU on a slice that gcloud made."""
    wait: int = 45
    """Seconds to wait for the other processes at the start."""
    detect: bool = True
    """Whether to look for a cluster where no coordinator is named."""
    elastic: bool = False
    """Under Slurm: end the last processes at once where the batches cannot be divided among all of them."""

    def __post_init__(self) -> None:
        given = [self.coordinator, self.count, self.index]
        require(all(x is None for x in given) or None not in given, "hosts", given, "give coordinator, count and index, or none of them")
        if self.coordinator is not None and self.count is not None and self.index is not None:
            name, _, port = self.coordinator.rpartition(":")
            require(bool(name) and port.isdecimal(), "hosts.coordinator", self.coordinator, "use HOST:PORT of host 0")
            require(self.count >= 1, "hosts.count", self.count, "use 1 or more")
            require(0 <= self.index < self.count, "hosts.index", self.index, f"use 0…{self.count - 1}")
        require(self.wait >= 1, "hosts.wait", self.wait, "use 1 second or more")

    def options(self, experiments: Sequence[Experiment]) -> dict[str, Any]:
        """Return the arguments of `hosts.initialize` for processes that run these experiments."""
        batches = {size for e in experiments for size in (e.batch_size, *(stage.batch_size or e.batch_size for stage in e.stages))}
        return vars(self) | {"elastic": tuple(sorted(batches)) if self.elastic else ()}


@dataclass(frozen=True, kw_only=True)
class TrainCommand(ExperimentCommand):
    """Run an experiment and record it in a run folder. On SIGTERM or SIGUSR1 it saves its state and exits with 75."""

    section = "Experiments"
    resumable = True

    run: Path | None = None
    """The run folder; by default runs/NAME-DATE-TIME."""
    resume: bool = False
    """Continue the run in the folder from its newest checkpoint."""
    accept_new_data: bool = False
    """With --resume: go on although images were added, removed, replaced or moved since the run began."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that show the figures of the run too, from the row of each update on: tensorboard (event files in the run folder), wandb,
    mlflow. Each needs the extra of its name."""
    hosts: Hosts = Hosts()
    """How the processes of a run on several hosts find each other."""
    per_device: int | None = None
    """Images of a batch on each device: the experiment's batch_size, which counts all devices together, becomes this times the number of
    devices, and a larger batch divides epoch_steps. By default both stay as they are."""
    lr_rule: Literal["linear", "sqrt", "none"] = "linear"
    """With --per-device: how given learning rates grow with the batch. linear is for SGD, sqrt for Adam."""

    def __post_init__(self) -> None:
        require(self.resume or not self.accept_new_data, "--accept-new-data", True, "it is for --resume; leave it out")
        fix = "it is for --per-device; leave it out, or give that too"
        require(self.per_device is not None or self.lr_rule == "linear", "--lr-rule", self.lr_rule, fix)
        require(self.per_device is None or self.per_device >= 1, "--per-device", self.per_device, "use 1 or more")

    def execute(self, ui: NullConsole) -> None:
        """Join the other processes, train, and print the figures."""
        require(bool(self.run) or not self.resume, "--resume", True, "name the run folder with --run DIR")
        from ...distributed import hosts
        from ...distributed.preemption import handle_signals

        hosts.initialize(**self.hosts.options((self.experiment,)))
        with hosts.exit_together(), hosts.watch_hosts(), handle_signals() as leave:
            self._train(ui if hosts.is_leader() else NullConsole(), leave)

    def _train(self, ui: NullConsole, leave: Callable[[], bool]) -> None:
        from ...core.serialization import to_json
        from ...distributed.hosts import on_leader
        from ...distributed.preemption import stoppable
        from ...report import run_plots
        from ...report.run_tables import result_tables
        from ...runs.environment import git_commit
        from ...runs.run import run
        from ...train.context import prepare

        experiment = self.experiment if self.per_device is None else self._rescale(self.per_device, ui)
        folder = Path(on_leader(lambda: str(self.run or new_run_folder(experiment.name))))
        commit = on_leader(lambda: git_commit(self.file))
        tracking = Tracking(self.track, folder, experiment.name, to_json(experiment))

        def prepared(experiment: Experiment) -> RunContext:
            return prepare(experiment, stoppable(ui, leave))._replace(leave=leave, accept_new_data=self.accept_new_data, track=tracking.row)

        def draw() -> None:  # the other hosts need no paths
            tracking.finish(summary, run_plots.plot_run(folder, stoppable(ui, leave)))

        try:
            summary = run(experiment, folder, resume=self.resume, commit=commit, ui=ui, prepared=prepared)
            if leave():
                raise Preempted("stopped after the run has finished; the same command with --resume draws its pictures")
            on_leader(draw)
        except (KeyboardInterrupt, Preempted):
            ui.say(f"to continue from the newest checkpoint, repeat the command with --run {folder} --resume")
            raise
        finally:
            tracking.close()
        for table in result_tables(summary):
            ui.say(table)
        ui.say(f"run folder: {folder}")

    def _rescale(self, per_device: int, ui: NullConsole) -> Experiment:
        """Return the experiment with the global batch of --per-device, and learning rates scaled by --lr-rule."""
        from ...distributed.mesh import devices
        from ...runs.lr_scaling import growth, rescaled

        old, count = self.experiment.batch_size, devices(self.experiment.parallel).count
        new = per_device * count
        factor = growth(self.lr_rule, new / old)
        scaled = rescaled(self.experiment, new, self.lr_rule)
        before, after = self.experiment.epoch_steps, scaled.epoch_steps
        ui.say(
            f"global batch {new} = {count} devices of {per_device} images, {new / old:g} times the experiment's {old}: "
            f"given rates × {factor:g} (rule {self.lr_rule})" + (f", epoch_steps {after} instead of {before}" if after != before else "")
        )
        return scaled
