"""Walking a functional graph: what stands before a tensor, behind it, and who made it."""

import keras

from mtl_keras.graph import walking


def network():
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    hidden = keras.layers.Dense(4, name="hidden")(left)
    joined = keras.layers.Concatenate(name="joined")([hidden, right])
    return keras.Model([left, right], [joined, hidden]), left, right, hidden, joined


def test_ancestors_and_descendants_are_those_of_the_drawing():
    model, left, right, hidden, joined = network()

    def ids(tensors):
        return {id(tensor) for tensor in tensors}

    assert ids(walking.ancestors([joined])) == ids([joined, hidden, left, right])
    assert ids(walking.ancestors([joined], stop=[hidden])) == ids([joined, right])
    assert ids(walking.descendants(model, left)) == ids([left, hidden, joined])
    assert ids(walking.inputs_of(joined)) == ids([left, right])
    assert ids(walking.inputs_of(hidden)) == ids([left])


def test_a_tensor_knows_its_layer_and_its_call():
    model, _, _, hidden, joined = network()
    assert walking.layer_of(joined) is model.get_layer("joined")
    assert walking.layer_of(1.0) is None
    assert walking.node_of(joined).input_tensors[0] is hidden
    assert walking.output_index(hidden) == 0
    assert [node.operation.name for node in walking.nodes(model)] == ["hidden", "joined"]
    assert walking.sublayers(model)[0] is model
    assert model not in walking.sublayers(model, include_self=False)
