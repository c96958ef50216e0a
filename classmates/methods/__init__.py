"""The methods, one file each: what it adds to a network, and the terms of its loss."""

from classmates.methods.at import AT
from classmates.methods.bake import BAKE
from classmates.methods.base import Method, Output
from classmates.methods.baseline import Baseline
from classmates.methods.born_again import BornAgain
from classmates.methods.cc import CC
from classmates.methods.clilr import CLILR
from classmates.methods.corsd import CORSD
from classmates.methods.crd import CRD
from classmates.methods.cskd import CSKD
from classmates.methods.deep_supervision import DeepSupervision
from classmates.methods.dist import DIST
from classmates.methods.dkd import DKD
from classmates.methods.dlb import DLB
from classmates.methods.dml import DML
from classmates.methods.fitnet import FitNet
from classmates.methods.kd import KD
from classmates.methods.label_smoothing import LabelSmoothing
from classmates.methods.mcl import MCL
from classmates.methods.mcl_batch import MCLBatch
from classmates.methods.okddip import OKDDip
from classmates.methods.one import ONE
from classmates.methods.pcl import PCL
from classmates.methods.pskd import PSKD
from classmates.methods.reviewkd import ReviewKD
from classmates.methods.rkd import RKD
from classmates.methods.sd import SD
from classmates.methods.sp import SP
from classmates.methods.tfkd import TfKD
from classmates.methods.zipf_ls import ZipfLS

__all__ = [
    "AT",
    "BAKE",
    "CC",
    "CLILR",
    "CORSD",
    "CRD",
    "CSKD",
    "DIST",
    "DKD",
    "DLB",
    "DML",
    "KD",
    "MCL",
    "ONE",
    "PCL",
    "PSKD",
    "RKD",
    "SD",
    "SP",
    "Baseline",
    "BornAgain",
    "Combined",
    "DeepSupervision",
    "FitNet",
    "LabelSmoothing",
    "MCLBatch",
    "Method",
    "OKDDip",
    "Output",
    "ReviewKD",
    "TfKD",
    "ZipfLS",
]

# Last: it looks the others up by name.
from classmates.methods.combined import Combined
