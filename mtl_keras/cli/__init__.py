"""The command line. Thin: each command is one call of the public API.

Nothing here imports Keras or TensorFlow until a command needs them.
"""

from mtl_keras.cli.app import main

__all__ = ["main"]
