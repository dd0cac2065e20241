import keras
import numpy as np
import pytest

import mtl_keras as mtl


def test_categorical_embedding_looks_each_column_up_in_its_own_block():
    layer = mtl.layers.CategoricalEmbedding([2, 3], dim=2)
    layer.build((None, 2))
    layer.set_weights([np.arange(10, dtype="float32").reshape(5, 2)])
    np.testing.assert_array_equal(layer(np.array([[1, 0], [0, 2]])), [[2, 3, 4, 5], [0, 1, 8, 9]])


def test_categorical_embedding_round_trips_through_its_config():
    layer = mtl.layers.CategoricalEmbedding([2, 3], dim=4)
    again = type(layer).from_config(layer.get_config())
    assert again.cardinalities == [2, 3] and again.dim == 4


@pytest.mark.parametrize(
    "options", [{"cardinalities": []}, {"cardinalities": [0]}, {"cardinalities": [3], "dim": 0}]
)
def test_categorical_embedding_refuses_empty_columns(options):
    with pytest.raises(ValueError, match="at least one column"):
        mtl.layers.CategoricalEmbedding(**options)


def test_categorical_embedding_refuses_another_number_of_columns():
    with pytest.raises(ValueError, match="embeds 2 columns"):
        mtl.layers.CategoricalEmbedding([2, 3]).build((None, 3))


def test_task_output_bears_the_tasks_name_activation_and_float32():
    keras.config.set_dtype_policy("mixed_float16")
    layer = mtl.tasks.TaskOutput(mtl.tasks.Classification("kind", num_classes=2))
    y = layer(np.array([[1000.0, -1000.0]], "float16"))
    assert layer.name == "kind" and y.dtype == "float32"
    np.testing.assert_allclose(y, [[1, 0]])


def test_task_output_round_trips_through_its_config():
    layer = mtl.tasks.TaskOutput(mtl.tasks.Regression("cost", scale=3.0))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.task.get_config() == layer.task.get_config()


def test_task_output_refuses_what_is_no_task():
    with pytest.raises(TypeError, match="needs a task"):
        mtl.tasks.TaskOutput("kind")
