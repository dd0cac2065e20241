"""Balancing: how several task losses become one update."""

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.equal import Equal
from mtl_keras.balancing.registry import get, names, register
from mtl_keras.balancing.static import Static
from mtl_keras.balancing.uncertainty import Uncertainty

__all__ = ["Balancer", "Equal", "Static", "Uncertainty", "get", "names", "register"]
