"""Runs of a comparison as tasks of a Ray cluster, all of whose machines see the comparison's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job
from classmates.experiments.workers import run_job
from classmates.training.config import TrainConfig
from classmates.training.module import TrainingModule
from classmates.training.on_ray import (
    RETRIES,
    connect,
    require_dashboard,
    require_devices,
    train_on_ray,
    uses_gpus,
)
from classmates.training.result import Result


class RayTasks:
    """Workers that make each run a task of the cluster.

    Args:
        ledger: of the comparison.
        count: how many at a time, over all machines.
        devices: of each run; with several, processes of their own train it.
        gpus: of each run, or the share of one, where the cluster has any.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, ledger: Ledger, count: int, devices: int, gpus: float):
        self.ray = connect()
        self.ledger = ledger
        self.count = count
        self.tasks: dict[Any, Job] = {}
        # A process for each run (max_calls), so that its peak memory is its own.
        options = {**share(self.ray, count, devices, gpus), "max_calls": 1, "max_retries": RETRIES}
        self.task = self.ray.remote(**options)(run_there if devices == 1 else run_over_machines)

    @property
    def free(self) -> int:
        return self.count - len(self.tasks)

    def start(self, job: Job) -> None:
        self.tasks[self.task.remote(os.getcwd(), str(self.ledger.folder), job.name)] = job

    def ended(self) -> list[tuple[Job, bool]]:
        if not self.tasks:
            return []
        ready, _ = self.ray.wait([*self.tasks], num_returns=len(self.tasks), timeout=0)
        outcomes = [(task, self._outcome(task)) for task in ready]
        return [(self.tasks.pop(task), tried) for task, tried in outcomes]

    def _outcome(self, task: Any) -> bool:
        try:
            return bool(self.ray.get(task))
        except self.ray.exceptions.RayError as error:  # its process was lost more often than it is tried again
            self.ledger.note_failure(self.tasks[task], error)
            return True

    def stop(self) -> None:
        for task in self.tasks:
            self.ray.cancel(task, force=True)


def run_with_asha(ledger: Ledger, jobs: Sequence[Job], count: int, devices: int, gpus: float) -> None:
    """Try the jobs that are not done, as trials of Ray Tune; ASHA stops those whose student falls behind.

    It compares the headline metric on validation images after a ninth and a third of the epochs, and lets about a
    third of the runs go on each time. A run that is stopped stays as any other that was interrupted.

    Args:
        ledger: of the search.
        jobs: its runs, with validation images.
        count: how many at a time.
        devices: of each run; with several, processes of their own train it.
        gpus: of each run, or the share of one, where the cluster has any.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    ray = connect()
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    here, folder = os.getcwd(), str(ledger.folder)

    def trial(config: dict[str, Any]) -> None:
        os.chdir(here)
        if devices == 1:
            run_job(Path(folder), config["name"], [Reporting(tune.report)])
            return
        from ray.train import report
        from ray.tune.integration.ray_train import TuneReportCallback

        on_ray = partial(train_over_machines, reports=[TuneReportCallback()])
        run_job(Path(folder), config["name"], [Reporting(report)], on_ray)

    left = [job for job in jobs if ledger.result(job) is None]
    if not left:
        return
    epochs = max(job.epochs for job in left)
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="val",
        mode="max",
        max_t=epochs,
        grace_period=first_rung(epochs),
        reduction_factor=3,
    )
    taken = share(ray, count, devices, gpus)
    # A byte of memory, because Tune takes no trial that takes nothing, as those of several devices do.
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": taken["num_cpus"], "gpu": taken["num_gpus"], "memory": 1}),
        param_space={"name": tune.grid_search([job.name for job in left])},
        tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=count),
        run_config=tune.RunConfig(storage_path=str(ledger.folder / "ray"), verbose=0),
    )
    tuner.fit()


def first_rung(epochs: int) -> int:
    """Return the epoch after which runs are compared first: a ninth, rounded up.

    The next is three times as late, and so on below the last epoch: rounded down, a fourth of 99 in 100 epochs would
    stop runs just before their end.
    """
    return ceil(epochs / 9)


class Reporting(Callback):
    """Report to Ray Tune, after every epoch but the last, how well the student does on validation images.

    What is reported is the headline of the protocol, with a minus where less of it is better, so that more always is.
    Not after the last epoch: Tune ends a run at once when it decides to, and this one has to be tested and written.
    """

    def __init__(self, report: Callable[[dict[str, Any]], None]):
        self.report = report

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        epoch, protocol = trainer.current_epoch + 1, module.protocol
        if epoch < (trainer.max_epochs or 1):
            value = module.validation["student"][protocol.headline]
            self.report({"val": value if protocol.mode == "max" else -value, "epoch": epoch})


def run_there(here: str, folder: str, name: str) -> bool:
    """Make one run in this process, from the folder that the comparison was started in."""
    os.chdir(here)
    return run_job(Path(folder), name)


def run_over_machines(here: str, folder: str, name: str) -> bool:
    """Make one run by several processes of the cluster, from the folder that the comparison was started in."""
    os.chdir(here)
    return run_job(Path(folder), name, make=train_over_machines)


def train_over_machines(*, reports: Sequence[Any] = (), **arguments: Any) -> Result:
    """Train as ``train`` does with these arguments, in several processes of the cluster."""
    return train_on_ray(TrainConfig(**arguments), reports)


def share(ray: Any, count: int, devices: int, gpus: float) -> dict[str, float]:
    """Return what each of ``count`` runs at a time takes of the cluster, as options of Ray's tasks.

    A run of several devices takes nothing itself: its processes do, each a GPU or a core.

    Raises:
        UserError: the cluster has fewer devices than all of them take, or several each and no dashboard.
    """
    resources = ray.cluster_resources()
    if devices > 1:
        asked = f"workers={count} runs at a time with devices_per_run={devices}"
        require_devices(resources, count * devices, asked, on_gpus=uses_gpus(resources, "auto"))
        require_dashboard()
        return {"num_cpus": 0, "num_gpus": 0}
    return {"num_cpus": cores_of_each(ray.nodes(), count), "num_gpus": gpus if resources.get("GPU") else 0}


def cores_of_each(nodes: Iterable[Mapping[str, Any]], count: int) -> int:
    """Return the most cores that each of ``count`` runs can have at the same time, none on two of the machines."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    fitting = [each for each in range(1, max(cores, default=0) + 1) if sum(of // each for of in cores) >= count]
    return max(fitting, default=1)
