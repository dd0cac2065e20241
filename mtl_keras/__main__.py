"""`python -m mtl_keras` is `mtl-keras`."""

from mtl_keras.cli import main

if __name__ == "__main__":
    main()
