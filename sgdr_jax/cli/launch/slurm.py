"""A Slurm cluster, through submitit: one process for each GPU, queued again when it is preempted or out of time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.console import NullConsole
from ...core.errors import InputError, Preempted
from ...core.validation import require
from ...runs.folder import LAUNCH
from .job import Job, Target

SAVING = 60.0
"""Seconds that a command has to save before the job is queued again."""


@dataclass(frozen=True)
class Slurm(Target):
    """Submits a job to Slurm: one process for each GPU, logs in the folder `launch` of the run. When it is preempted or out of time it
    saves, is queued again and goes on from there."""

    nodes: int = 1
    """Number of machines."""
    gpus_per_node: int = 0
    """GPUs of each machine; one process uses one of them."""
    tasks_per_node: int | None = None
    """Processes on each machine; by default one for each GPU, or a single one where there are none."""
    cpus_per_task: int | None = None
    """Processor cores of each process; by default as the cluster has it."""
    minutes: int = 24 * 60
    """Time limit; the job is queued again shortly before."""
    timeouts: int = 100
    """How often it may run out of time before it ends for good; preemptions do not count."""
    warning: int = 90
    """Seconds before the time limit at which it is queued again."""
    memory: int | None = None
    """GB of each machine; by default as the cluster has it."""
    partition: str | None = None
    """Partition, as `sinfo` lists them."""
    account: str | None = None
    """Whom the time is charged to."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that the machines must have."""
    setup: tuple[str, ...] = ()
    """Lines of shell that run before the processes, such as "module load cuda"."""
    parallel: int = 256
    """Jobs of an array that run at the same time, at most."""
    dry_run: bool = False
    """Only print the batch script."""

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("gpus_per_node", 0), ("minutes", 1), ("timeouts", 0), ("warning", 1), ("parallel", 1)):
            value = getattr(self, name)
            require(value >= least, f"--{name.replace('_', '-')}", value, f"use {least} or more")
        for name in ("tasks_per_node", "cpus_per_task", "memory"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name.replace('_', '-')}", value, "use 1 or more")
        tasks = self.tasks_per_node
        fits = tasks is None or self.gpus_per_node in (0, tasks)
        require(fits, "--tasks-per-node", tasks, f"use one for each of the {self.gpus_per_node} GPUs, as jax expects it under Slurm")

    def launch(self, job: Job, ui: NullConsole) -> int:
        """Submits the job and says its number; with `dry_run` only prints the batch script."""
        executor = self.executor(job.run / LAUNCH, job.name)
        words = job.command()
        if self.dry_run:
            print(executor._make_submission_file_text(executor._submitit_command_str, "ID"))
            print("# which runs in every process: " + " ".join(words))
            return 0
        (number,) = self.submit([words], job.run / LAUNCH, job.name)
        ui.say(f"job {number}, {self.nodes * self.tasks} processes on {self.nodes} machines; run folder {job.run}")
        ui.say(f"logs: {job.run / LAUNCH}/{number}_*_log.out and .err; scancel {number} ends it")
        return 0

    def check_single(self) -> None:
        """Raises InputError where a job would be more than one process."""
        for field, value in (("nodes", self.nodes), ("gpus-per-node" if self.gpus_per_node > 1 else "tasks-per-node", self.tasks)):
            require(value == 1, f"--{field}", value, "a worker of a sweep is one process with one GPU at most: use 1, and more --workers")

    def workers(self, words: Sequence[str], count: int, folder: Path, name: str, ui: NullConsole) -> None:
        """Submits so many workers of a sweep, all the same command, as one array of jobs; with `dry_run` only prints the batch script.

        Args:
            words: of the command; a worker that is preempted or out of time is queued again with the same.
            folder: of the sweep, on a disk that all machines see.
        """
        logs = folder / LAUNCH
        if self.dry_run:
            executor = self.executor(logs, name)
            executor.parameters["map_count"] = count  # as submitit does for an array
            print(executor._make_submission_file_text(executor._submitit_command_str, "ID"))
            print(f"# each of the {count} jobs: {' '.join(words)}")
            return
        numbers = self.submit([words] * count, logs, name)
        array = numbers[0].partition("_")[0]
        ui.say(f"job {array}, {count} workers; logs: {logs}/{array}_*_log.out and .err; scancel {array} ends them")

    @property
    def tasks(self) -> int:
        """Processes on each machine."""
        return self.tasks_per_node or self.gpus_per_node or 1

    def submit(self, commands: Sequence[Sequence[str]], folder: Path, name: str) -> list[str]:
        """Submits commands, several as one array of jobs; gives the number of each job.

        Args:
            commands: words of each; they must be such that they may be run again from the beginning.
            folder: for logs and scripts, on a disk that all machines see.
            name: shown in the queue.

        Raises:
            InputError: without submitit or Slurm, or when Slurm refuses.
        """
        executor = self.check(folder, name)
        from submitit.core.utils import FailedJobError

        jobs: list[Any] = []
        try:
            with executor.batch():
                jobs = [executor.submit(Command(words, Path.cwd())) for words in commands]
        except FailedJobError as error:
            raise InputError(f"Slurm refused the job: {str(error).strip().splitlines()[-1]}") from error
        return [job.job_id for job in jobs]

    def check(self, folder: Path, name: str) -> Any:
        """submitit's executor. Raises InputError where nothing can be submitted from here."""
        executor, there = self.executor(folder, name), shutil.which("sbatch") is not None
        require(there, "launch", "slurm", "run this where sbatch is, on a machine of the cluster, or use --dry-run")
        return executor

    def executor(self, folder: Path, name: str) -> Any:
        """submitit's executor with these options."""
        try:
            import submitit
        except ImportError as error:
            raise InputError("launching on Slurm needs submitit: pip install 'sgdr_jax[cluster]'") from error

        class Executor(submitit.SlurmExecutor):
            @classmethod
            def affinity(cls) -> int:  # a batch script can be printed anywhere
                return 2

        given = {"partition": self.partition, "account": self.account, "qos": self.qos, "constraint": self.constraint}
        given |= {"cpus_per_task": self.cpus_per_task, "gpus_per_node": self.gpus_per_node or None, "setup": list(self.setup) or None}
        given |= {"mem": f"{self.memory}GB" if self.memory else None}
        executor = Executor(folder.absolute(), max_num_timeout=self.timeouts)
        executor.update_parameters(
            job_name=name,
            nodes=self.nodes,
            ntasks_per_node=self.tasks,
            time=self.minutes,
            signal_delay_s=self.warning,
            array_parallelism=self.parallel,
            srun_args=["--kill-on-bad-exit=1"],
            additional_parameters={"requeue": True},
            **{key: value for key, value in given.items() if value is not None},
        )
        return executor


class Command:
    """A command as a job of submitit, which calls it in every process, and queues the same again when the job is preempted.

    Args:
        words: of the command.
        folder: that it runs in.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self.words, self.folder = list(words), str(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Runs the command to its end. Raises RuntimeError when it fails, so that Slurm counts the job as failed."""
        # What Slurm tells a job to warn it is heard by submitit, which queues the job again; the command might die of it.
        deaf = ["sh", "-c", 'trap "" TERM USR2; exec "$@"', "sh"]
        environment = {name: value for name, value in os.environ.items() if name != "SUBMITIT_EXECUTOR"}
        self._process = process = subprocess.Popen([*deaf, *self.words], cwd=self.folder, env=environment)
        try:
            while (code := process.poll()) is None:  # not `wait`, in which `checkpoint`, called by a signal, could not wait too
                time.sleep(0.2)
            if code == Preempted.code:
                time.sleep(SAVING)  # it has saved, as all others have; the job is about to be queued again
        finally:
            process.kill()
            process.wait()
        if code:
            raise RuntimeError(f"{' '.join(self.words)} ended with {code}")

    def checkpoint(self) -> Any:
        """What is queued again: the same. The command is told to save before; of several processes one that is told is enough."""
        import submitit

        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(SAVING)
        return submitit.helpers.DelayedSubmission(Command(self.words, Path(self.folder)))
