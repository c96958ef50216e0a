"""Classes that a student was not trained on, each kept as one point among its embeddings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from classmates._files import output_file
from classmates._names import utf8_path
from classmates.errors import UserError
from classmates.losses.leave_one_out import dissimilarity, distances
from classmates.losses.prototypes import Distance
from classmates.runs.student import DAMAGED, read_tensors
from classmates.runs.student_files import WEIGHTS

SUFFIX = ".safetensors"
KEY = "prototypes"
"""The name of the tensor, and of the metadata that go with it."""


@dataclass(frozen=True, eq=False)
class Prototypes:
    """The prototypes of some classes, and what is needed to judge an image by them.

    Args:
        centres: [K, D], float32; see ``classmates.losses.prototypes.prototypes``.
        class_names: [K].
        photos: [K], how many images each is the mean of.
        distance: between an embedding and a prototype.
        scale: s in p(k) ∝ exp(−s d²) or, with the cosine, exp(−s d).
        reach: the distance within which 95 % of the images of these classes are expected from the nearest prototype;
            None where every class had one image, of which nothing can be learnt about that.
        student: a hash of the weights that made them: another network's embeddings have nothing to do with these.
    """

    centres: Tensor
    class_names: tuple[str, ...]
    photos: tuple[int, ...]
    distance: Distance
    scale: float
    reach: float | None
    student: str

    def __post_init__(self) -> None:
        if self.centres.dim() != 2 or not len(self.centres) or not self.centres.is_floating_point():
            raise ValueError(
                f"its prototypes are {self.centres.dtype} of shape {tuple(self.centres.shape)}, not [K, D]"
            )
        if not self.centres.isfinite().all():
            raise ValueError("its prototypes are not finite")
        if not len(self.class_names) == len(self.photos) == len(self.centres):
            raise ValueError(f"it has {len(self.centres)} prototypes, and names and numbers of photos of others")
        if not all(isinstance(name, str) for name in self.class_names):
            raise ValueError(f"class_names {self.class_names} must be texts")
        if self.distance not in get_args(Distance):
            raise ValueError(f"distance '{self.distance}' is none of {', '.join(get_args(Distance))}")
        if not 0 < self.scale < inf or not (self.reach is None or 0 < self.reach < inf):
            raise ValueError(f"scale {self.scale} and reach {self.reach} must be above 0, and finite")

    def distances(self, embeddings: Tensor) -> Tensor:
        """Return the distances of embeddings [N, D] from the prototypes: [N, K], float64."""
        return distances(embeddings, self.centres, self.distance)

    def probabilities(self, distances: Tensor) -> Tensor:
        """Return the probabilities of the classes, [N, K], at these distances from their prototypes, [N, K]."""
        return (-self.scale * dissimilarity(distances, self.distance)).softmax(dim=-1)

    def described(self) -> dict[str, Any]:
        """Return everything but the centres, as JSON can hold it."""
        names = ("class_names", "photos", "distance", "scale", "reach", "student")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> str:
        """Return everything, for the metadata of a file that holds the network itself."""
        return json.dumps({**self.described(), "centres": self.centres.tolist()}, ensure_ascii=False)

    def save(self, path: Path) -> None:
        """Write a safetensors file: the centres, and the rest as JSON in its metadata.

        Raises:
            UserError: it has another suffix, or cannot be written.
        """
        require_suffix(path)
        with output_file(path) as file:
            metadata = {"format": "pt", KEY: json.dumps(self.described(), ensure_ascii=False)}
            file.write_bytes(safetensors.torch.save({KEY: self.centres.contiguous()}, metadata))


def require_suffix(path: Path) -> None:
    """Raise UserError unless prototypes can be written to a file of this name."""
    if path.suffix != SUFFIX:
        better = path.with_suffix(SUFFIX) if path.name else path / f"prototypes{SUFFIX}"
        raise UserError(f"prototypes are kept in a {SUFFIX} file, not in '{path}': use '{better}'")


def load_prototypes(path: str | Path, run: str | Path) -> Prototypes:
    """Load prototypes that ``Prototypes.save`` wrote.

    Raises:
        UserError: there is no such file, it is another one or damaged, or the student of the run did not make it.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file of prototypes '{path}': --support FOLDER --save_prototypes FILE makes one")
    try:
        with utf8_path(Path(path)) as readable, safe_open(readable, "pt") as file:
            rest = json.loads(file.metadata()[KEY])
            centres = file.get_tensor(KEY)
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in rest.items()
        }
        found = Prototypes(centres, **fields)
    except (SafetensorError, OSError, *DAMAGED) as error:
        raise UserError(f"'{path}' is damaged or no file of prototypes: {error}") from error
    if found.student not in (student_hash(run), file_hash(run)):
        raise UserError(
            f"the prototypes in '{path}' were made by another student than that of '{run}', whose embeddings are "
            "others: make them anew with --support FOLDER"
        )
    return found


def student_hash(run: str | Path) -> str:
    """Return a hash of the weights of a run's student, by name: not of the card that their file holds too."""
    whole = hashlib.sha256()
    for name, tensor in sorted(read_tensors(Path(run) / WEIGHTS).items()):
        whole.update(json.dumps([name, str(tensor.dtype), *tensor.shape]).encode())
        whole.update(tensor.flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()[:32]


def file_hash(run: str | Path) -> str:
    """Return the hash by which prototypes of earlier versions name a run's student: of the whole file."""
    with (Path(run) / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
