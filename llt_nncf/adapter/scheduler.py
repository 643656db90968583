"""The scheduler: at the boundary of the last importance epoch it makes the controller search."""

from typing import Any

from nncf.common.schedulers import BaseCompressionScheduler


class LltScheduler(BaseCompressionScheduler):
    """
    Counts epochs as NNCF's schedulers do, and fires the search of ``"where": "training"``.

    :param controller: The controller whose ``search`` is called.
    :param importance_epochs: The search fires when this epoch (counted from 0) begins.
    """

    def __init__(self, controller: Any, importance_epochs: int):
        super().__init__()
        self._controller = controller
        self._importance_epochs = importance_epochs

    def load_state(self, state: dict[str, Any]) -> None:
        if state:  # NNCF's stub, the scheduler once it is disabled, has saved nothing
            super().load_state(state)

    def epoch_step(self, next_epoch: int | None = None) -> None:
        super().epoch_step(next_epoch)
        if self._controller.policy is None and self.current_epoch >= self._importance_epochs:
            self._controller.search()
