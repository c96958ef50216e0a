"""Data sets, their splits, and the batches a training loop is fed."""

from classmates.data.augmentation import Augmentation
from classmates.data.loaders import Loader, eval_loader, train_loader
from classmates.data.parts import ImageData, Split
from classmates.data.samplers import EpochSampler, Shuffled, Triplets, TripletsWithReplacement
from classmates.data.sources import NAMES, load

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
