"""Balancing: how several task losses become one update."""

from mtl_keras.balancing.alignment import IMTLG, AlignedMTL, ConFIG
from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.equal import Equal
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.imtl_l import IMTLL
from mtl_keras.balancing.mgda import MGDA
from mtl_keras.balancing.nash_mtl import NashMTL
from mtl_keras.balancing.pcgrad import GradVac, PCGrad
from mtl_keras.balancing.registry import get, names, register
from mtl_keras.balancing.rlw import RLW
from mtl_keras.balancing.scalarization import GLS, STCH, LogLoss
from mtl_keras.balancing.static import Static
from mtl_keras.balancing.uncertainty import Uncertainty
from mtl_keras.balancing.upgrad import DualProj, UPGrad

__all__ = [
    "GLS",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "RLW",
    "STCH",
    "AlignedMTL",
    "Balancer",
    "ConFIG",
    "DualProj",
    "Equal",
    "GradVac",
    "GramBalancer",
    "LogLoss",
    "NashMTL",
    "PCGrad",
    "Static",
    "UPGrad",
    "Uncertainty",
    "get",
    "names",
    "register",
]
