"""Slurm target, by submitit: one process per GPU, requeued when it is preempted or reaches its time limit."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.console import NullConsole, write_text
from ...core.errors import InputError, Preempted
from ...core.text import one_line
from ...core.validation import require
from ...runs.folder import LAUNCH
from .job import Job, Target

if TYPE_CHECKING:
    import submitit

SAVING = 60.0
"""Seconds for a command to save its state before the job is requeued."""


@dataclass(frozen=True)
class Slurm(Target):
    """Submit a job to Slurm with one process per GPU.

    Its logs are in the folder `launch` of the run. When it is preempted or reaches its time limit, it saves its state, is requeued and
    continues.
    """

    nodes: str = "1"
    """Number of machines, or a range such as 2-8: the run goes on with as many as it gets, in each of its attempts."""
    gpus_per_node: int = 0
    """Number of GPUs per machine; each process uses one."""
    tasks_per_node: int | None = None
    """Processes per machine; by default one per GPU, or one without GPUs."""
    cpus_per_task: int | None = None
    """Processor cores per process; by default that of the cluster."""
    minutes: int = 24 * 60
    """Time limit; the job is requeued shortly before."""
    timeouts: int = 100
    """Largest number of times that the job is requeued at its time limit; preemptions do not count."""
    warning: int = 90
    """Seconds before the time limit at which it is requeued."""
    memory: int | None = None
    """Memory per machine in GB; by default that of the cluster."""
    partition: str | None = None
    """Partition; `sinfo` lists them."""
    account: str | None = None
    """Account that the time is charged to."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Required features of the machines."""
    setup: tuple[str, ...] = ()
    """Shell commands that run before the processes, such as "module load cuda"."""
    parallel: int = 256
    """Largest number of jobs of an array that run at the same time."""
    dry_run: bool = False
    """Only print the batch script."""

    def __post_init__(self) -> None:
        counts = re.fullmatch(r"(\d+)(?:-(\d+))?", self.nodes)
        fits = counts is not None and 1 <= int(counts[1]) <= int(counts[2] or counts[1])
        require(fits, "--nodes", self.nodes, "use 1 or more, or a range such as 2-8")
        for name, least in (("gpus_per_node", 0), ("minutes", 1), ("timeouts", 0), ("warning", 1), ("parallel", 1)):
            value = getattr(self, name)
            require(value >= least, f"--{name.replace('_', '-')}", value, f"use {least} or more")
        require(self.warning < 60 * self.minutes, "--warning", self.warning, f"use less than the {self.minutes} minutes of the job")
        for name in ("tasks_per_node", "cpus_per_task", "memory"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name.replace('_', '-')}", value, "use 1 or more")
        tasks = self.tasks_per_node
        fits = tasks is None or self.gpus_per_node in (0, tasks)
        require(fits, "--tasks-per-node", tasks, f"use one for each of the {self.gpus_per_node} GPUs, as jax expects under Slurm")

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Submit the job and print its number; with `dry_run` only print the batch script."""
        executor = self.executor(job.run / LAUNCH, job.name)
        words = [*job.command(), *self.elastic]
        if self.dry_run:
            _print_script(executor, f"which runs in every process: {shlex.join(words)}")
            return 0
        (number,) = self.submit([words], job.run / LAUNCH, job.name)
        ui.say(f"job {number}, {self.nodes} machines with {self.tasks} processes each; run folder {job.run}")
        ui.say(f"logs: {job.run / LAUNCH}/{number}_*_log.out and .err; scancel {number} ends it")
        return 0

    def workers(self, words: Sequence[str], count: int, folder: Path, name: str, ui: NullConsole) -> None:
        """Submit workers of a sweep as one array of jobs; with `dry_run` only print the batch script.

        Args:
            words: command line of each process of a worker; it is repeated when the worker is requeued.
            count: number of workers.
            folder: folder of the sweep, on a disk that all machines share.
            name: name in the queue.
            ui: console.
        """
        logs, words = folder / LAUNCH, [*words, *self.elastic]
        if self.dry_run:
            executor = self.executor(logs, name)
            executor.parameters["map_count"] = count  # as submitit does for an array
            _print_script(executor, f"each of the {count} jobs: {shlex.join(words)}")
            return
        numbers = self.submit([words] * count, logs, name)
        array = numbers[0].partition("_")[0]
        each = "" if (self.nodes, self.tasks) == ("1", 1) else f" of {self.nodes} machines with {self.tasks} processes each"
        ui.say(f"job {array}, {count} workers{each}; logs: {logs}/{array}_*_log.out and .err; scancel {array} ends them")

    @property
    def elastic(self) -> list[str]:
        """Words for the command where the number of machines may vary."""
        return ["--hosts.elastic"] if "-" in self.nodes else []

    @property
    def tasks(self) -> int:
        """Number of processes per machine."""
        return self.tasks_per_node or self.gpus_per_node or 1

    def submit(self, commands: Sequence[Sequence[str]], folder: Path, name: str) -> list[str]:
        """Submit commands, several as one array of jobs, and return the number of each job.

        Args:
            commands: command lines, which must be repeatable.
            folder: folder of logs and scripts, on a disk that all machines share.
            name: name in the queue.

        Raises:
            InputError: without submitit or Slurm, or when Slurm rejects the job.
        """
        executor = self.check(folder, name)
        from submitit.core.utils import FailedJobError

        jobs: list[submitit.Job[Any]] = []
        try:
            with executor.batch():
                jobs = [executor.submit(SubmittedCommand(words, Path.cwd())) for words in commands]
        except FailedJobError as error:
            raise InputError(f"Slurm rejects the job: {str(error).strip().splitlines()[-1]}") from error
        return [job.job_id for job in jobs]

    def check(self, folder: Path, name: str) -> submitit.SlurmExecutor:
        """Return submitit's executor. Raises InputError if this machine cannot submit jobs."""
        executor = self.executor(folder, name)
        installed = shutil.which("sbatch") is not None
        require(installed, "launch", "slurm", "run this where sbatch is, on a machine of the cluster, or use --dry-run")
        return executor

    def executor(self, folder: Path, name: str) -> submitit.SlurmExecutor:
        """Return submitit's executor with these options."""
        try:
            import submitit
        except ImportError as error:
            raise InputError("launching on Slurm needs submitit: pip install 'sgdr_jax[cluster]'") from error

        class Executor(submitit.SlurmExecutor):
            @classmethod
            def affinity(cls) -> int:  # a batch script can be printed anywhere
                return 2

        options = {"partition": self.partition, "account": self.account, "qos": self.qos, "constraint": self.constraint}
        options |= {"cpus_per_task": self.cpus_per_task, "gpus_per_node": self.gpus_per_node or None, "setup": list(self.setup) or None}
        options |= {"mem": f"{self.memory}GB" if self.memory else None}
        # Of a range of nodes Slurm gives at most as many as there are tasks, and counts those of the fewest nodes: `srun` starts the tasks.
        options |= {"ntasks_per_node": None if self.elastic else self.tasks}
        ranges = {"nodes": self.nodes, "mincpus": self.tasks * (self.cpus_per_task or 1)} if self.elastic else {}
        executor = Executor(folder.absolute(), max_num_timeout=self.timeouts)
        executor.update_parameters(
            job_name=name,
            nodes=int(self.nodes.rpartition("-")[2]),
            time=self.minutes,
            signal_delay_s=self.warning,
            array_parallelism=self.parallel,
            srun_args=["--kill-on-bad-exit=1", *([f"--ntasks-per-node={self.tasks}"] if self.elastic else [])],
            additional_parameters={"requeue": True} | ranges,  # submitit has no ranges
            **{key: value for key, value in options.items() if value is not None},
        )
        return executor


def _print_script(executor: submitit.SlurmExecutor, note: str) -> None:
    """Print the batch script that submitit would submit, and a note as a comment in one line."""
    script = executor._make_submission_file_text(executor._submitit_command_str, "ID")
    write_text(sys.stdout, f"{script}\n# {one_line(note)}\n")


class SubmittedCommand:
    """Command line as a job of submitit, which calls it in each process and requeues it when the job is preempted.

    Args:
        words: command line.
        folder: working directory.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.words, self.folder = list(words), str(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command to its end. Raises RuntimeError when it fails, so that Slurm counts the job as failed."""
        # Signals by which Slurm warns a job are for submitit, which requeues it; they could end the command.
        ignoring = ["sh", "-c", 'trap "" TERM USR2; exec "$@"', "sh"]
        environment = {name: value for name, value in os.environ.items() if name != "SUBMITIT_EXECUTOR"}
        self._process = process = subprocess.Popen([*ignoring, *self.words], cwd=self.folder, env=environment)
        try:
            while (code := process.poll()) is None:  # `wait` would block `checkpoint`, which a signal handler calls and which waits too
                time.sleep(0.2)
            if code == Preempted.code:
                time.sleep(SAVING)  # all processes have saved their state; the job is about to be requeued
        finally:
            process.kill()
            process.wait()
        if code:
            raise RuntimeError(f"{' '.join(self.words)} ended with {code}")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Let the command save its state and return the same command, to be requeued. A signal to one process of several is enough."""
        import submitit

        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(SAVING)
        return submitit.helpers.DelayedSubmission(SubmittedCommand(self.words, Path(self.folder)))
