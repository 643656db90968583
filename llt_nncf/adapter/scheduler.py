"""The scheduler: at the boundary of the last importance epoch it makes the controller search."""

from typing import Any

from nncf.common.schedulers import BaseCompressionScheduler

from llt_nncf.errors import StageError


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

    def epoch_step(self, next_epoch: int | None = None) -> None:
        super().epoch_step(next_epoch)
        self._controller.complete_step()
        if self._controller.policy is None and self.current_epoch >= self._importance_epochs:
            self._controller.search()

    def require_search(self) -> None:
        """
        Lets go on without the scheduler.

        :raises StageError: If the search is still to come.
        """
        if self._controller.policy is None:
            msg = (
                "The scheduler was disabled before it could fire the search: let accuracy_aware_training have more "
                'initial_training_phase_epochs than importance.epochs, or set importance.where to "init".'
            )
            raise StageError(msg)
