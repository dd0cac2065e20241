"""From a Keras model to the bytes of a file: SavedModel, TFLite in every precision, ONNX,
OpenVINO."""
