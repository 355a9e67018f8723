"""A training that is told to leave in the middle of its steps, as a machine that is withdrawn tells it."""

import signal

from trainer.loop.checkpoints import Checkpoints


class Interrupting(Checkpoints):
    """Sends this process a SIGTERM after so many chunks."""

    def __init__(self, folder: str, chunks: int) -> None:
        super().__init__(folder, seconds=1e6)
        self.chunks = chunks

    def due(self) -> bool:
        self.chunks -= 1
        if self.chunks == 0:
            signal.raise_signal(signal.SIGTERM)
        return False  # the only checkpoint is that of the stop, however slow this machine is
