"""Keras layers that backbones, heads and builders need and Keras lacks."""

from mtl_keras.layers.categorical_embedding import CategoricalEmbedding
from mtl_keras.layers.experts import DSelectKGate, Experts, Gate, Mixture
from mtl_keras.layers.factorized import FactorizedConv1D, FactorizedConv2D, FactorizedDense
from mtl_keras.layers.features import (
    Cross,
    FiLM,
    InformationTransfer,
    OrderCalibrator,
    ProbabilityProduct,
    StageMixture,
)
from mtl_keras.layers.log_mel import LogMel
from mtl_keras.layers.modality import ModalityAttention, ModalityDefault
from mtl_keras.layers.ordinal import OrdinalThresholds
from mtl_keras.layers.quantized import FakeQuantize, QuantizedWeights
from mtl_keras.layers.raw_image import RawImage
from mtl_keras.layers.resized import ResizeLike
from mtl_keras.layers.sequences import (
    FoldFrames,
    MaskedMax,
    MaskedMean,
    MaskedSelfAttention,
    MaskPadding,
    PaddingMask,
    PositionEmbedding,
    UnfoldFrames,
)
from mtl_keras.layers.soft_argmax import SoftArgmax
from mtl_keras.layers.streams import (
    BlockIdentity,
    BranchChoice,
    BranchPath,
    CrossStitch,
    MutualInformation,
    SubspaceStitch,
)
from mtl_keras.layers.ties import WeightTie

__all__ = [
    "BlockIdentity",
    "BranchChoice",
    "BranchPath",
    "CategoricalEmbedding",
    "Cross",
    "CrossStitch",
    "DSelectKGate",
    "Experts",
    "FactorizedConv1D",
    "FactorizedConv2D",
    "FactorizedDense",
    "FakeQuantize",
    "FiLM",
    "FoldFrames",
    "Gate",
    "InformationTransfer",
    "LogMel",
    "MaskPadding",
    "MaskedMax",
    "MaskedMean",
    "MaskedSelfAttention",
    "Mixture",
    "ModalityAttention",
    "ModalityDefault",
    "MutualInformation",
    "OrderCalibrator",
    "OrdinalThresholds",
    "PaddingMask",
    "PositionEmbedding",
    "ProbabilityProduct",
    "QuantizedWeights",
    "RawImage",
    "ResizeLike",
    "SoftArgmax",
    "StageMixture",
    "SubspaceStitch",
    "UnfoldFrames",
    "WeightTie",
]
