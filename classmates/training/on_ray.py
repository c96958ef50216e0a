"""One training over the machines of a Ray cluster, by Ray Train: a process that is lost is replaced, the run goes on.

Each process trains as it would anywhere; Ray starts them, joins them and says which of them is which. Checkpoints
are the run's own, in its folder, which all machines see.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from classmates._files import require_writable
from classmates._progress import Saying, say, saying
from classmates._signals import ended_by_signals, kept_handlers
from classmates.errors import NonFiniteLoss, UserError
from classmates.runs.folder import check_empty
from classmates.training.config import TrainConfig
from classmates.training.ranks import LostProcess, agreed
from classmates.training.result import Result
from classmates.training.resuming import resumable
from classmates.training.run import train_configured

RETRIES = 3
"""The number of times a run goes on, from its last checkpoint, when a machine or a process of it is lost."""
DASHBOARD_SECONDS = 30
"""Seconds that the cluster's dashboard has to answer."""
GRACE = 20.0
"""Seconds that the processes have to end when the run is interrupted."""


@ended_by_signals()
def train_on_ray(config: TrainConfig, reports: Sequence[Any] = ()) -> Result:
    """Train as ``train`` does, in ``config.devices`` processes of the cluster, on a GPU each, or a core without any.

    Args:
        config: the arguments of ``train``.
        reports: callbacks of Ray Train, told of what the processes report.

    Raises:
        UserError: Ray is not installed, no cluster answers, it has fewer devices, or its machines do not share the
            run's folder; and whatever ``train`` raises.
    """
    count = int(config.devices)
    config = replace(config, strategy="ddp", devices=count)
    ray = connect(logs=config.progress and saying().progress)
    on_gpus = uses_gpus(ray.cluster_resources(), config.accelerator)
    require_devices(ray.cluster_resources(), count, f"devices={count}", on_gpus=on_gpus)
    out = Path(config.out or "").absolute()
    if not config.resume:  # so that whatever a process finds there later is of this run
        check_empty(out)
    require_writable(out / "config.yaml")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as shared:
        # A task can be ended from here with all that it has started, and is begun again if it is lost.
        begin = ray.remote(num_cpus=0, max_retries=RETRIES)(run_group)
        task = begin.remote(config, on_gpus, os.getcwd(), shared, saying(), reports)
        try:
            # Not ray.get, which makes Ctrl-C of every signal.
            result: Result = task.future().result()
        except KeyboardInterrupt:
            ray.cancel(task, force=True)
            ray.wait([task], timeout=GRACE)
            raise
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
    return result


def run_group(
    config: TrainConfig, on_gpus: bool, here: str, shared: str, said: Saying, reports: Sequence[Any]
) -> Result:
    """Have Ray Train keep the group of processes going, until they have trained; return the first one's result.

    Args:
        config: the arguments of ``train``.
        on_gpus: whether each process has a GPU.
        here: the folder that the command was given in.
        shared: a folder that all machines should see.
        said: what is to be said.
        reports: as ``train_on_ray`` takes them.

    Raises:
        UserError: processes were lost more often than they are replaced; and whatever a process raises.
    """
    from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback, WorkerGroupError
    from ray.train.torch import TorchTrainer

    class GiveUp(UserCallback):
        """Ends the group for errors that would come again, which Ray Train cannot tell from a lost process."""

        def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
            if (error := fatal(worker_exceptions.values())) is not None:
                raise error

    trainer = TorchTrainer(
        partial(one_process, config, here, shared, said),
        scaling_config=ScalingConfig(num_workers=int(config.devices), use_gpu=on_gpus),
        run_config=RunConfig(
            name="ray",
            storage_path=shared,
            failure_config=FailureConfig(max_failures=RETRIES),
            callbacks=[GiveUp(), *reports],
        ),
    )
    try:
        return trainer.fit().return_value
    except ControllerError as error:
        raise error.controller_failure from error
    except WorkerGroupError as error:
        how = ", ".join(sorted({type(one).__name__ for one in error.worker_failures.values()}))
        raise UserError(
            f"on=ray: processes of this training were lost {RETRIES + 1} times, at last by {how}; see Ray's logs. "
            "When that is mended, go on with --resume true"
        ) from error


def one_process(config: TrainConfig, here: str, shared: str, said: Saying) -> Result | None:
    """Train, as one process of several; go on where earlier ones have left a checkpoint. Return the first's result.

    Raises:
        UserError: this machine does not see what the others do; and whatever ``train`` raises.
    """
    for folder, what in ((here, "the command was given in"), (shared, f"--out '{config.out}' needs")):
        if not Path(folder).is_dir():
            raise UserError(
                f"on=ray: machine '{platform.node()}' does not see '{folder}', the folder that {what}: "
                "take one on a file system that all machines of the cluster share, under the same path"
            )
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    os.chdir(here)
    resume = config.resume or agreed(partial(resumable, Path(config.out or "")))
    processes = {"devices": "auto", "strategy": RayDDPStrategy(), "plugins": [RayLightningEnvironment()]}
    with say(**said._asdict()):
        result = train_configured(replace(config, resume=resume), processes)
    return None if result.record is None else result


def fatal(errors: Iterable[Exception]) -> Exception | None:
    """Return the error of some processes that would come again if they were replaced; None where one was lost.

    What a process itself says is wrong goes before what others say of its end, and a process that Ray has lost before
    whatever that made of others.
    """
    errors = list(errors)
    told = [one for one in errors if isinstance(one, UserError | NonFiniteLoss) and not isinstance(one, LostProcess)]
    lost = any(isinstance(one, LostProcess) or type(one).__module__.partition(".")[0] == "ray" for one in errors)
    return next(iter(told), None if lost else errors[0])


def connect(*, logs: bool = False) -> Any:
    """Return Ray, connected to the cluster that ``RAY_ADDRESS`` names, or to one that is started on this machine.

    logs: whether what its processes print is printed here too.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("on=ray: Ray is not installed: pip install 'classmates[ray]'") from error
    if not ray.is_initialized():
        try:
            with kept_handlers():
                ray.init(log_to_driver=logs)
        except ConnectionError as error:
            raise UserError(f"on=ray: no cluster answers ({error}): check RAY_ADDRESS") from error
    return ray


def require_dashboard() -> None:
    """Raise UserError where the cluster's dashboard does not answer.

    By it Ray Train learns that a training was ended from outside, and gives back the cores or GPUs that it held;
    without it they are never free again, and the next run waits for ever.
    """
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException

    try:
        list_nodes(limit=1, timeout=DASHBOARD_SECONDS)
    except RayStateApiException as error:
        raise UserError(
            "on=ray: several processes a run need the cluster's dashboard, and it does not answer: on the cluster's "
            "head, pip install 'ray[default]' and ray start --head --include-dashboard=true"
        ) from error


def uses_gpus(resources: Mapping[str, float], accelerator: str) -> bool:
    """Return whether processes take the cluster's GPUs; UserError where they should and it has none."""
    there = bool(resources.get("GPU"))
    if accelerator in ("gpu", "cuda") and not there:
        raise UserError(f"on=ray: accelerator='{accelerator}', and the cluster has no GPU: say cpu, or leave it out")
    return there and accelerator != "cpu"


def require_devices(resources: Mapping[str, float], count: int, asked: str, *, on_gpus: bool) -> None:
    """Raise UserError where the cluster has fewer GPUs, or cores, than processes are asked for."""
    kind, there = ("GPUs", resources.get("GPU", 0)) if on_gpus else ("cores", resources.get("CPU", 0))
    if count > there:
        raise UserError(
            f"on=ray: {asked}: a process takes one of the cluster's {kind}, and it has {there:g}: take fewer, or "
            "start Ray on more machines"
        )
