"""What the methods share that learn their weights on held-out data."""

from __future__ import annotations

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.types import Tensor

__all__ = ["HeldOutBalancer"]


class HeldOutBalancer(Balancer):
    """A method that weighs the training losses by what a step on them does to losses on held-out
    data.

    Before each step the trainer looks one virtual step ahead, takes the gradient `d` of the
    held-out losses there, each times its entry of `held_out_weights`, and calls
    `update_from_look_ahead`. The step then uses the weights of `weigh`.
    """

    strategy = "held_out"

    def held_out_weights(self) -> Tensor:
        """What each task's held-out loss counts, `(tasks,)`."""
        raise NotImplementedError

    def update_from_look_ahead(
        self, plus: Tensor, minus: Tensor, epsilon: Tensor, step: Tensor, present: Tensor
    ) -> None:
        """Move the weights.

        Args:
            plus, minus: the training losses `(tasks,)` at `theta + eps d` and `theta - eps d`.
            epsilon: scalar.
            step: scalar. Learning rate of the virtual step.
            present: bool `(tasks,)`.
        """
        raise NotImplementedError
