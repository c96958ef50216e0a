"""Few-shot learning: episodes a second in training, and many episodes judged, each against a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import classmates.models  # noqa: F401  (registers conv4)
from benchmarks.harness import device, interleave, write
from classmates.contracts import Batch, DataSpec
from classmates.data.batches.episodes import Episodes
from classmates.data.batches.samplers import EpochSampler
from classmates.methods import Baseline
from classmates.tasks.episodes import judge
from classmates.tasks.few_shot import FewShot

CLASSES, EACH, SIZE = 20, 600, 32
"""Of CIFAR-FS's test part; in training the images are as many."""


def main(out: Path, quick: bool) -> None:
    images = torch.randn(CLASSES * (30 if quick else EACH), 3, SIZE, SIZE, device=device())
    labels = torch.arange(len(images)) % CLASSES
    train_steps(images, labels, out, quick)
    evaluations(images, labels, out, quick)


def train_steps(images: Tensor, labels: Tensor, out: Path, quick: bool) -> None:
    """Time a step of eight episodes: one batched product of all, and one episode and one class at a time."""
    task = FewShot(way=5, shot=1, queries=3 if quick else 15)
    together = 8 * task.sampling.group
    indices = torch.tensor(next(iter(EpochSampler(task.sampling, labels, together))))
    batch = Batch(images[indices], labels[indices].to(images.device), indices.to(images.device))
    spec = DataSpec(CLASSES, labels, (3, SIZE, SIZE), task=task)
    method = Baseline(timm.create_model("conv4"), spec).to(images.device)
    body = timm.create_model("conv4").to(images.device)
    write(
        interleave(
            {
                "batched": step(method.parameters, lambda: method(batch).total),
                "a loop over episodes": step(
                    body.parameters,
                    lambda: torch.stack(
                        [slow_loss(body, one, task) for one in batch.images.split(task.sampling.group)]
                    ).mean(),
                ),
            },
            rounds=2 if quick else 7,
        ),
        "few_shot_training",
        out,
        f"A step of conv4 on eight episodes of {task.sampling.group} images of 3x{SIZE}x{SIZE}: forward, loss, "
        "backward and update. The loop runs the network once an episode and takes the distances class by class.",
    )


def step(parameters: Callable[[], object], loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(parameters(), 1e-3)  # type: ignore[arg-type]

    def call() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return call


def slow_loss(network: nn.Module, images: Tensor, task: FewShot) -> Tensor:
    """Return the loss of one episode, its distances made class by class."""
    embeddings = network(images).view(task.way, task.shot + task.queries, -1)
    queries = embeddings[:, task.shot :].flatten(0, 1)
    distances = [(queries - support.mean(0)).square().sum(1) for support in embeddings[:, : task.shot]]
    targets = torch.arange(task.way, device=images.device).repeat_interleave(task.queries)
    return F.cross_entropy(-torch.stack(distances, dim=1), targets)


@torch.inference_mode()
def evaluations(images: Tensor, labels: Tensor, out: Path, quick: bool) -> None:
    """Time 600 and 10,000 episodes: images embedded once and gathered, and every episode with forwards of its own."""
    network = timm.create_model("conv4").to(images.device).eval()
    counts = (20, 40) if quick else (600, 10_000)
    one_by_one = 10 if quick else 60
    draw = torch.Generator().manual_seed(0)
    lists = {count: Episodes(5, 1, 15, count).draw(labels, draw) for count in counts}

    def once(count: int) -> Callable[[], None]:
        def call() -> None:
            embeddings = torch.cat([network(part) for part in images.split(500)])
            judge(embeddings, lists[count], 1, distance="euclidean", scale=1.0)

        return call

    def slowly() -> None:
        for episode in lists[counts[0]][:one_by_one]:
            judge(network(images[episode.flatten()]), local(episode), 1, distance="euclidean", scale=1.0)

    frame = interleave(
        {f"{one_by_one} episodes one by one": slowly, **{f"{count:,} episodes": once(count) for count in counts}},
        rounds=1 if quick else 3,
    )
    times = frame["median_ms"] / 1000
    frame["episodes_per_second"] = [
        one_by_one / times.iloc[0],
        *(n / t for n, t in zip(counts, times[1:], strict=True)),
    ]
    write(
        frame,
        "few_shot_evaluation",
        out,
        f"conv4 on {len(images):,} test images of 3x{SIZE}x{SIZE}, 5-way 1-shot, 15 queries: all images embedded "
        "once and gathered for the episodes, and each episode embedded on its own.",
    )


def local(episode: Tensor) -> Tensor:
    """Return an episode as rows of its own images alone, [1, W, S + Q]."""
    return torch.arange(episode.numel()).view(1, *episode.shape)
