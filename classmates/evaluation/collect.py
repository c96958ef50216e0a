"""One pass over a split: the predictions of all networks, and the student's features of some of its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from classmates._memory import keep_freed_memory
from classmates._progress import bar
from classmates.contracts import Batch, NetworkOutput
from classmates.data.parts import Files, Split
from classmates.evaluation.by_image import Pictured
from classmates.tasks.protocol import Protocol

FEATURE_SAMPLES = 500  # images whose stage features are kept, for t-SNE


@dataclass
class Predictions:
    """Networks' predictions of a split, in its order.

    labels: [n]. logits: [n, K] by whose they are, or whatever else the protocol judges. features: pooled maps of the
    student's stages, shallow to deep, then its embedding, [s, C_i] each, of the first s images. split: the images
    themselves; None where nothing but the predictions is wanted.
    """

    labels: Tensor
    logits: dict[str, Tensor]
    features: list[Tensor] = field(default_factory=list)
    split: Split | None = None

    @property
    def groups(self) -> Tensor | None:
        """The groups of the images, [n]; None where the data have none."""
        return None if self.split is None else self.split.groups

    @property
    def files(self) -> Files | None:
        """The files of the images, n; None where they come from none."""
        return None if self.split is None else self.split.paths


@torch.inference_mode()
def collect(
    predict: Callable[[Tensor], tuple[dict[str, Tensor], NetworkOutput | None]],
    batches: Iterable[Batch],
    *,
    description: str = "test",
) -> Predictions:
    """Predict every batch once.

    predict: from images [B, C, H, W] to logits [B, K] by whose they are, and the student's output if its features are
        wanted; evaluation mode and the device are up to the caller.
    """
    keep_freed_memory()
    labels: list[Tensor] = []
    logits: dict[str, list[Tensor]] = {}
    features: list[list[Tensor]] = []
    kept = 0
    for batch in bar(batches, description, "batch"):
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
        logits={who: torch.cat(logits.pop(who)) for who in [*logits]},  # of many, never all twice
        features=[torch.cat(parts) for parts in zip(*features, strict=True)],
    )


def as_arrays(
    predictions: Predictions,
    protocol: Protocol,
    class_names: Sequence[str],
    shown: Pictured,
    stage_names: list[str],
) -> dict[str, np.ndarray]:
    """Return the arrays of ``evaluation.npz``.

    protocol: how they were judged. class_names: [K], of the split. shown: the images that the report shows.
    stage_names: of the student.
    """
    *stages, embedding = predictions.features
    more = protocol.arrays(predictions.logits, predictions.labels)
    return {
        "labels": predictions.labels.numpy(),
        "class_names": np.array([name.encode("utf-8", "backslashreplace").decode("utf-8") for name in class_names]),
        **{f"{protocol.judged}/{who}": values.numpy() for who, values in predictions.logits.items()},
        **{name: values.numpy() for name, values in more.items()},
        "wrong_rows": shown.rows,
        "wrong_images": shown.images,
        **({} if shown.files is None else {"wrong_files": np.array(shown.files, dtype=str)}),
        "stage_names": np.array(stage_names),
        **{f"features/{number}": values.numpy() for number, values in enumerate(stages)},
        "features/embedding": embedding.numpy(),
        "feature_labels": predictions.labels[: len(embedding)].numpy(),
    }
