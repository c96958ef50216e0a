"""Data sets, their splits, and the batches a training loop is fed."""

from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import Loader, eval_loader, train_loader
from classmates.data.batches.samplers import EpochSampler, Shuffled, Triplets, TripletsWithReplacement
from classmates.data.loading import NAMES, load
from classmates.data.parts import ImageData, Split

__all__ = [
    "NAMES",
    "Augmentation",
    "EpochSampler",
    "ImageData",
    "Loader",
    "Shuffled",
    "Split",
    "Triplets",
    "TripletsWithReplacement",
    "eval_loader",
    "load",
    "train_loader",
]
