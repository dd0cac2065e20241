from mtl_keras import balancing, backbones, builders, data, layers, tasks
from mtl_keras.model import MultiTaskModel
