"""The settings that vae_dense and vae_functional share: one network, built in two ways."""

import dataclasses

from trainer.models import checks


@dataclasses.dataclass(frozen=True)
class Config:
    """The network and the training objective.

    Attributes:
      hidden: units of the layer between image and latent vector.
      latent: dimensions of z.
      objective: `elbo` or `source`.
    """

    hidden: int = 64
    latent: int = 32
    objective: str = "elbo"

    def __post_init__(self) -> None:
        checks.at_least(1, hidden=self.hidden, latent=self.latent)
        checks.one_of("objective", self.objective, checks.OBJECTIVES)
