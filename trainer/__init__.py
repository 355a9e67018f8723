"""Everything about models: the variants, their mathematics, the training loop and the export."""

from trainer import moved

moved.install()
