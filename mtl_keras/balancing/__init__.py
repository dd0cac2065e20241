"""Balancing: how several task losses become one update."""

from mtl_keras.balancing.alignment import IMTLG, AlignedMTL, ConFIG
from mtl_keras.balancing.auto_lambda import AutoLambda
from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.cagrad import CAGrad
from mtl_keras.balancing.catalog import list_balancers
from mtl_keras.balancing.chain import EMA, IMTL, Chain
from mtl_keras.balancing.chebyshev import PBI, STCH, Chebyshev
from mtl_keras.balancing.double_sampling import MoDo, SDMGrad
from mtl_keras.balancing.dwa import DWA
from mtl_keras.balancing.elementwise import GradDrop, TrimmedMean
from mtl_keras.balancing.equal import Equal
from mtl_keras.balancing.famo import FAMO
from mtl_keras.balancing.gradients import GradientBalancer
from mtl_keras.balancing.gradnorm import GradNorm
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.held_out import HeldOutBalancer
from mtl_keras.balancing.imtl_l import IMTLL
from mtl_keras.balancing.krum import Krum
from mtl_keras.balancing.mgda import MGDA
from mtl_keras.balancing.nash_mtl import FairGrad, NashMTL
from mtl_keras.balancing.pcgrad import GradVac, PCGrad
from mtl_keras.balancing.registry import get, names, register
from mtl_keras.balancing.rlw import RLW
from mtl_keras.balancing.scalarization import GLS, LogLoss
from mtl_keras.balancing.static import Static
from mtl_keras.balancing.tracking import DBMTL, ExcessMTL, MetaBalance, MoCo
from mtl_keras.balancing.uncertainty import Uncertainty
from mtl_keras.balancing.upgrad import DualProj, UPGrad

__all__ = [
    "DBMTL",
    "DWA",
    "EMA",
    "FAMO",
    "GLS",
    "IMTL",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "PBI",
    "RLW",
    "STCH",
    "AlignedMTL",
    "AutoLambda",
    "Balancer",
    "CAGrad",
    "Chain",
    "Chebyshev",
    "ConFIG",
    "DualProj",
    "Equal",
    "ExcessMTL",
    "FairGrad",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GradientBalancer",
    "GramBalancer",
    "HeldOutBalancer",
    "Krum",
    "LogLoss",
    "MetaBalance",
    "MoCo",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "SDMGrad",
    "Static",
    "TrimmedMean",
    "UPGrad",
    "Uncertainty",
    "get",
    "list_balancers",
    "names",
    "register",
]
