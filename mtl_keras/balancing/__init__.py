"""Balancing: how several task losses become one update."""

from mtl_keras.balancing.alignment import IMTLG, AlignedMTL, ConFIG
from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.equal import Equal
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.mgda import MGDA
from mtl_keras.balancing.nash_mtl import NashMTL
from mtl_keras.balancing.pcgrad import GradVac, PCGrad
from mtl_keras.balancing.registry import get, names, register
from mtl_keras.balancing.static import Static
from mtl_keras.balancing.uncertainty import Uncertainty
from mtl_keras.balancing.upgrad import DualProj, UPGrad

__all__ = [
    "IMTLG",
    "MGDA",
    "AlignedMTL",
    "Balancer",
    "ConFIG",
    "DualProj",
    "Equal",
    "GradVac",
    "GramBalancer",
    "NashMTL",
    "PCGrad",
    "Static",
    "UPGrad",
    "Uncertainty",
    "get",
    "names",
    "register",
]
