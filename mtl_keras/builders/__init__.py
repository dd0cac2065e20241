"""Builders: functions that join inputs, backbones, a way of sharing and heads into one model."""

from mtl_keras.builders.arguments import VOCABULARY, SharedArguments, builder
from mtl_keras.builders.attention import adapters, mtan, task_gated
from mtl_keras.builders.branching import branches, learned_branching, prune
from mtl_keras.builders.experts import cgc, dselect_k, mmoe, omoe, ple
from mtl_keras.builders.factorized import tensor_factorized
from mtl_keras.builders.funnels import aitm, esmm
from mtl_keras.builders.hard_sharing import hard_sharing, layerwise
from mtl_keras.builders.hierarchical import hierarchical
from mtl_keras.builders.modal import complete_inputs, cross_modal, multi_input
from mtl_keras.builders.soft_sharing import cross_stitch, nddr, sluice, soft_sharing

__all__ = [
    "VOCABULARY",
    "SharedArguments",
    "adapters",
    "aitm",
    "branches",
    "builder",
    "cgc",
    "complete_inputs",
    "cross_modal",
    "cross_stitch",
    "dselect_k",
    "esmm",
    "hard_sharing",
    "hierarchical",
    "layerwise",
    "learned_branching",
    "mmoe",
    "mtan",
    "multi_input",
    "nddr",
    "omoe",
    "ple",
    "prune",
    "sluice",
    "soft_sharing",
    "task_gated",
    "tensor_factorized",
]
