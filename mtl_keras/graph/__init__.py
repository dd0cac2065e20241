"""Functional models as graphs: walking, rewiring, and measuring what tasks reach and share.

The only room that uses Keras's private attributes (`_keras_history`, `_inbound_nodes`,
`_flatten_layers`, ...): when Keras changes them, this folder changes and no other. `reach` and
`sharing` trace with TensorFlow and are imported on their own."""

from mtl_keras.graph.rewiring import inline, reapply, rewire_graph, split
from mtl_keras.graph.walking import (
    ancestors,
    descendants,
    has_graph,
    has_own_config,
    inputs_of,
    is_functional,
    layer_of,
    node_of,
    nodes,
    nodes_of_layer,
    output_index,
    output_of,
    own_variables,
    sublayers,
)

__all__ = [
    "ancestors",
    "descendants",
    "has_graph",
    "has_own_config",
    "inline",
    "inputs_of",
    "is_functional",
    "layer_of",
    "node_of",
    "nodes",
    "nodes_of_layer",
    "output_index",
    "output_of",
    "own_variables",
    "reapply",
    "rewire_graph",
    "split",
    "sublayers",
]
