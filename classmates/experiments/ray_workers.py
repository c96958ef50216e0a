"""Runs of a comparison as tasks of a Ray cluster, all of whose machines see the comparison's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from classmates.errors import UserError
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job
from classmates.experiments.workers import run_job
from classmates.training.module import TrainingModule

RETRIES = 3
"""The number of times a run goes on elsewhere, from its last checkpoint, when its machine or process is lost."""


class RayTasks:
    """Workers that make each run a task of the cluster.

    Args:
        ledger: of the comparison.
        count: how many at a time, over all machines.
        gpus: of each run, or the share of one, where the cluster has any.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, ledger: Ledger, count: int, gpus: float):
        self.ray = connect()
        self.ledger = ledger
        self.count = count
        self.tasks: dict[Any, Job] = {}
        cpus, gpus = share(self.ray, count, gpus)
        # A process for each run (max_calls), so that its peak memory is its own.
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_calls": 1, "max_retries": RETRIES}
        self.task = self.ray.remote(**options)(run_there)

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


def run_with_asha(ledger: Ledger, jobs: Sequence[Job], count: int, gpus: float) -> None:
    """Try the jobs that are not done, as trials of Ray Tune; ASHA stops those whose student falls behind.

    It compares the headline metric on validation images after a ninth and a third of the epochs, and lets about a
    third of the runs go on each time. A run that is stopped stays as any other that was interrupted.

    Args:
        ledger: of the search.
        jobs: its runs, with validation images.
        count: how many at a time.
        gpus: of each run, or the share of one, where the cluster has any.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    ray = connect()
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    here, folder = os.getcwd(), str(ledger.folder)

    def trial(config: dict[str, Any]) -> None:
        run_there(here, folder, config["name"], [Reporting(tune.report)])

    left = [job for job in jobs if ledger.result(job) is None]
    if not left:
        return
    epochs = max(job.epochs for job in left)
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="val",
        mode="max",
        max_t=epochs,
        grace_period=max(1, epochs // 9),
        reduction_factor=3,
    )
    cpus, gpus = share(ray, count, gpus)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": cpus, "gpu": gpus}),
        param_space={"name": tune.grid_search([job.name for job in left])},
        tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=count),
        run_config=tune.RunConfig(storage_path=str(ledger.folder / "ray"), verbose=0),
    )
    tuner.fit()


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


def run_there(here: str, folder: str, name: str, callbacks: Sequence[Callback] = ()) -> bool:
    """Make one run, from the folder that the comparison was started in."""
    os.chdir(here)
    return run_job(Path(folder), name, callbacks)


def connect() -> Any:
    """Return Ray, connected to the cluster that ``RAY_ADDRESS`` names, or to one that is started on this machine.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("on=ray: Ray is not installed: pip install 'classmates[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False)
        except ConnectionError as error:
            raise UserError(f"on=ray: no cluster answers ({error}): check RAY_ADDRESS") from error
    return ray


def share(ray: Any, count: int, gpus: float) -> tuple[int, float]:
    """Return (cores, GPUs) of each of ``count`` runs at a time."""
    resources = ray.cluster_resources()
    return max(1, int(resources.get("CPU", 1)) // count), gpus if resources.get("GPU") else 0
