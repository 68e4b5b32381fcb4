"""MLflow; its own environment variables (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME) hold."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_VALUE = 500
"""Characters of a parameter's value, the least that any store of MLflow takes."""


class MLflow:
    """Logs to a run of MLflow, whose id is kept in RUN/mlflow.txt, so that a resumed run goes on with it.

    Args:
        folder: the run folder.
        name: of the experiment, unless MLFLOW_EXPERIMENT_NAME names one.
        config: of the experiment, flat.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric, file = MlflowClient(), Metric, folder / "mlflow.txt"
        if file.exists():
            self._id = file.read_text().strip()
        else:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
            known = self._client.get_experiment_by_name(title)
            experiment = known.experiment_id if known else self._client.create_experiment(title)
            self._id = self._client.create_run(experiment, run_name=folder.name).info.run_id
            file.write_text(f"{self._id}\n")
            params = [Param(key, (x if isinstance(x, str) else json.dumps(x))[:_MOST_VALUE]) for key, x in config.items()]
            for start in range(0, len(params), 100):  # the most that MLflow takes at once
                self._client.log_batch(self._id, params=params[start : start + 100])
        # A store keeps every value that it is given: those that it has are not given again.
        known_metrics = self._client.get_run(self._id).data.metrics
        self._last = {key: max(m.step for m in self._client.get_metric_history(self._id, key)) for key in known_metrics}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        now = int(1000 * time.time())
        fresh = {key: value for key, value in values.items() if step > self._last.get(key, -1)}
        if fresh:
            self._client.log_batch(self._id, [self._metric(key, value, now, step) for key, value in fresh.items()])
            self._last |= dict.fromkeys(fresh, step)

    def rewind(self, step: int) -> None:
        """See `Tracker.rewind`; a store keeps the values that it has, and those that follow are the newer ones of their steps."""
        self._last = {key: min(last, step - 1) for key, last in self._last.items()}

    def finish(self, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """See `Tracker.finish`."""
        for name, value in figures.items():
            self._client.log_metric(self._id, name, value)
        for path in pictures.values():
            self._client.log_artifact(self._id, str(path))
        self._client.set_terminated(self._id)

    def close(self) -> None:
        """See `Tracker.close`; everything is written already."""
