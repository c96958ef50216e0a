"""New classes from a few photos: how often they are right, and how often strangers are refused, at each distance.

    python -m benchmarks.new_classes RUN FOLDER [--out results/new_classes]

RUN is a student's folder, FOLDER has a folder of photos for each class. Some are drawn as support, the others judged.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.harness import markdown
from classmates._files import output_file
from classmates.data.augmentation import normalise
from classmates.evaluation.new_classes import find_support
from classmates.evaluation.reading import read
from classmates.losses.leave_one_out import dissimilarity, distances, fitted_scale, leave_one_out, reach
from classmates.losses.prototypes import Distance, prototypes
from classmates.runs.student import load_embedder

SHOTS, DRAWS = (1, 2, 5, 10), 20


def judge(
    embeddings: Tensor, labels: Tensor, shot: int, known: int, distance: Distance, draw: int
) -> dict[str, float]:
    """Return shares of the images that are not in the support. known: how many classes the support has."""
    random = torch.Generator().manual_seed(draw)
    classes = int(labels.max()) + 1
    labels = torch.randperm(classes, generator=random)[labels]  # which classes are known is drawn too
    order = torch.randperm(len(labels), generator=random)
    rank = one_hot(labels[order]).cumsum(0).gather(1, labels[order][:, None])[:, 0]  # of each image in its class
    support, others = order[(rank <= shot) & (labels[order] < known)], order[rank > shot]
    centres = torch.stack([prototypes(embeddings[support[labels[support] == k]], distance) for k in range(known)])
    found, own = distances(embeddings[others], centres, distance), labels[others] < known
    right = found.argmin(1) == labels[others]
    result = {"right": float(right[own].double().mean())}
    if shot > 1:
        left_out, of = leave_one_out(embeddings[support], labels[support], distance)
        scale, within = fitted_scale(left_out, of, distance), reach(left_out.min(1).values)
        likely = (-scale * dissimilarity(found, distance)).softmax(1).max(1).values
        far = found.min(1).values > within
        result |= {
            "right of the support, left out": float((left_out.argmin(1) == of).double().mean()),
            "mean probability": float(likely[own].mean()),
            "refused": float(far[own].double().mean()),
        }
        if known < classes:
            result["strangers refused"] = float(far[~own].double().mean())
    return result


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/new_classes"))
    arguments = parser.parse_args()
    network, card = load_embedder(arguments.run)
    photos = find_support(arguments.folder)
    mean, std = torch.tensor(card.mean), torch.tensor(card.std)
    found = []
    for start in range(0, len(photos.files), 32):
        pixels = torch.stack([read(file, card) for file in photos.files[start : start + 32]])
        found.append(network(normalise(pixels, mean, std, torch.contiguous_format)))
    embeddings = torch.cat(found)
    classes, rows = len(photos.class_names), []
    for shot in SHOTS:
        for known in (classes, classes // 2):
            for distance in ("euclidean", "cosine"):
                draws = [judge(embeddings, photos.labels, shot, known, distance, draw) for draw in range(DRAWS)]
                means = pd.DataFrame(draws).mean().mul(100).round(1)
                rows.append({"photos a class": shot, "classes": known, "distance": distance, **means})
    table = pd.DataFrame(rows).set_index("photos a class")
    text = (
        f"# New classes from a few photos\n\n{card.model}, embeddings of {len(photos.files)} photos of {classes} "
        f"classes; percent, means of {DRAWS} draws of support and known classes. Refused: novelty above 1.\n\n"
        f"{markdown(table)}\n\nMade with `python -m benchmarks.new_classes {arguments.run} {arguments.folder}`.\n"
    )
    with output_file(arguments.out / "new_classes.csv") as file:
        table.to_csv(file)
    with output_file(arguments.out / "new_classes.md") as file:
        file.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
