"""What the zoo's recipes produced: one folder an entry, read through `mtl_keras.zoo`."""
