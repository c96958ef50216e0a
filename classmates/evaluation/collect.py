"""One pass over a split: the predictions of all networks, and the student's features of some of its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from classmates.contracts import Batch, NetworkOutput

FEATURE_SAMPLES = 500  # images whose stage features are kept, for t-SNE
WORST = 24  # images shown as the most wrong ones


@dataclass
class Predictions:
    """Networks' predictions of a split, in its order.

    labels: [n]. logits: [n, K] by whose they are, or whatever else the protocol judges. features: pooled maps of the
    student's stages, shallow to deep, then its embedding, [s, C_i] each, of the first s images.
    """

    labels: Tensor
    logits: dict[str, Tensor]
    features: list[Tensor] = field(default_factory=list)

    def most_wrong(self, count: int = WORST) -> Tensor:
        """Return the rows of the images where the student prefers a wrong class most to the right one, in order."""
        logits = self.logits["student"]
        right = logits.gather(1, self.labels[:, None]).squeeze(1)
        margin = logits.max(1).values - right
        wrong = logits.argmax(1) != self.labels
        order = margin.masked_fill(~wrong, -1).argsort(descending=True, stable=True)
        return order[: min(count, int(wrong.sum()))]


@torch.inference_mode()
def collect(
    predict: Callable[[Tensor], tuple[dict[str, Tensor], NetworkOutput | None]],
    batches: Iterable[Batch],
    *,
    description: str = "test",
    progress: bool = True,
) -> Predictions:
    """Predict every batch once.

    predict: from images [B, C, H, W] to logits [B, K] by whose they are, and the student's output if its features are
        wanted; evaluation mode and the device are up to the caller.
    """
    labels: list[Tensor] = []
    logits: dict[str, list[Tensor]] = {}
    features: list[list[Tensor]] = []
    kept = 0
    for batch in tqdm(batches, desc=description, unit="batch", leave=False, disable=not progress):
        predicted, output = predict(batch.images)
        labels.append(batch.labels.cpu())
        for who, values in predicted.items():
            logits.setdefault(who, []).append(values.float().cpu())
        if output is not None and kept < FEATURE_SAMPLES:
            pooled = [*(stage.mean((2, 3)) for stage in output.stages), output.embedding]
            features.append([part[: FEATURE_SAMPLES - kept].float().cpu() for part in pooled])
            kept += len(batch.labels)
    return Predictions(
        labels=torch.cat(labels),
        logits={who: torch.cat(parts) for who, parts in logits.items()},
        features=[torch.cat(parts) for parts in zip(*features, strict=True)],
    )


def as_arrays(predictions: Predictions, images: np.ndarray, stage_names: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of ``evaluation.npz``; images: [m, H, W, C] uint8, the pictures of ``most_wrong()``."""
    *stages, embedding = predictions.features
    return {
        "labels": predictions.labels.numpy(),
        **{f"logits/{who}": values.numpy() for who, values in predictions.logits.items()},
        "wrong_rows": predictions.most_wrong().numpy(),
        "wrong_images": images,
        "stage_names": np.array(stage_names),
        **{f"features/{number}": values.numpy() for number, values in enumerate(stages)},
        "features/embedding": embedding.numpy(),
        "feature_labels": predictions.labels[: len(embedding)].numpy(),
    }
