"""Data sets, their splits, and the batches a training loop is fed."""

from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import Loader, eval_loader, train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import ClassPairs, ClassUniform, Sampling, Shuffled, Triplets
from classmates.data.loading import NAMES, load
from classmates.data.parts import ImageData, Split

__all__ = [
    "NAMES",
    "Augmentation",
    "ClassPairs",
    "ClassUniform",
    "EpochSampler",
    "ImageData",
    "Loader",
    "Sampling",
    "Shuffled",
    "Split",
    "Triplets",
    "eval_loader",
    "load",
    "train_loader",
]
