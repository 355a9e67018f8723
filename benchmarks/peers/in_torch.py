"""The variants' twins in PyTorch, eager: same layers, losses, optimizers and batch.

Run by benchmarks/loop.py in the peers' environment, with a variant's name and the batch: each line on
standard input is a number of steps to take, each line on standard output the seconds that took.
"""

import itertools
import math
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

IMAGES, SIDE, PIXELS, CLASSES = 10_000, 28, 784, 10
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def bernoulli(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """-log p(images), [B, ...] -> [B]."""
    terms = functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
    return terms.flatten(1).sum(1)


def log_normal(z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """log N(z; mean, exp(log_var)) summed over the last axis."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mean) ** 2 * torch.exp(-log_var)).sum(-1)


class Vae(nn.Module):
    """Encoder, decoder and the bound."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, sampled: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder, self.sampled = encoder, decoder, sampled

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        mean, log_var = self.encoder(images).chunk(2, dim=-1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        if self.sampled:
            zero = torch.zeros([])
            rate = log_normal(z, mean, log_var) - log_normal(z, zero, zero)
        else:
            rate = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)
        return (bernoulli(self.decoder(z), images) + rate).mean()


class Iwae(Vae):
    """Five samples, doubly reparameterised gradient (Tucker et al. 2019)."""

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        samples = 5
        mean, log_var = (part.repeat_interleave(samples, 0) for part in self.encoder(images).chunk(2, -1))
        images = images.repeat_interleave(samples, 0)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        fixed = z.detach().requires_grad_()
        zero = torch.zeros([])
        log_joint = log_normal(fixed, zero, zero) - bernoulli(self.decoder(fixed), images)
        log_weights = log_joint - log_normal(fixed, mean.detach(), log_var.detach())
        [slopes] = torch.autograd.grad(log_weights.sum(), fixed, retain_graph=True)
        weights = log_weights.reshape(-1, samples)
        shares = weights.softmax(1).detach()
        moved = (slopes * z).sum(-1).reshape(-1, samples)
        return -(shares * weights + shares**2 * moved).sum(1).mean()


class Classifier(nn.Module):
    """A network and the cross-entropy."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        return functional.cross_entropy(self.network(images), labels)


class Hypernet(nn.Module):
    """A generator of all weights of a 784-64-10 classifier, for each image its own."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [PIXELS * 64, 64, 64 * CLASSES, CLASSES]
        self.generator = nn.Sequential(
            nn.Linear(PIXELS, 16), nn.ReLU(), nn.Linear(16, sum(self.sizes)), nn.Sigmoid()
        )

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        flat = images.flatten(1)
        kernel1, bias1, kernel2, bias2 = self.generator(flat).split(self.sizes, dim=-1)
        hidden = torch.relu(torch.einsum("bi,bio->bo", flat, kernel1.reshape(-1, PIXELS, 64)) + bias1)
        logits = torch.einsum("bi,bio->bo", hidden, kernel2.reshape(-1, 64, CLASSES)) + bias2
        return functional.cross_entropy(logits, labels)


def dense(*widths: int, activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers with the activation between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, units in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(fan_in, units), activation()]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:]))


def images_of(network: nn.Module) -> nn.Sequential:
    """The network, whose outputs are the pixels."""
    return nn.Sequential(network, nn.Unflatten(1, (1, SIDE, SIDE)))


def cvae() -> nn.Module:
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, 2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2304, 4),
    )
    decoder = nn.Sequential(
        nn.Linear(2, 7 * 7 * 32), nn.ReLU(), nn.Unflatten(1, (32, 7, 7)),
        nn.ConvTranspose2d(32, 64, 3, 2, padding=1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, 2, padding=1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 3, padding=1),
    )  # fmt: skip
    return Vae(encoder, decoder, sampled=True)


def vae_conv() -> nn.Module:
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(14 * 14 * 64, 32), nn.ReLU(), nn.Linear(32, 4),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(2, 14 * 14 * 64), nn.ReLU(), nn.Unflatten(1, (64, 14, 14)),
        nn.ConvTranspose2d(64, 32, 3, 2, padding=1, output_padding=1), nn.ReLU(),
        nn.Conv2d(32, 1, 3, padding=1),
    )  # fmt: skip
    return Vae(encoder, decoder)


def vae_dense() -> nn.Module:
    return Vae(
        dense(PIXELS, 64, 64, activation=nn.ReLU), images_of(dense(32, 64, PIXELS, activation=nn.ReLU))
    )


def iwae() -> nn.Module:
    return Iwae(
        dense(PIXELS, 200, 200, 100, activation=nn.Tanh),
        images_of(dense(50, 200, 200, PIXELS, activation=nn.Tanh)),
    )


def mlp() -> nn.Module:
    return Classifier(dense(PIXELS, 32, 32, CLASSES, activation=nn.ReLU))


def linear() -> nn.Module:
    return Classifier(dense(PIXELS, CLASSES, activation=nn.ReLU))


def adam(rate: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.Adam(model.parameters(), rate, eps=1e-7)


TWINS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], torch.optim.Optimizer]]] = {
    "cvae": (cvae, adam(1e-4)),
    "hypernet": (Hypernet, adam(1e-4)),
    "iwae": (iwae, adam(1e-3)),
    "linear": (linear, lambda model: torch.optim.SGD(model.parameters(), 1e-3)),
    "mlp": (mlp, adam(1e-3)),
    "vae_conv": (vae_conv, lambda model: torch.optim.RMSprop(model.parameters(), 1e-3, alpha=0.9, eps=1e-7)),
    "vae_dense": (vae_dense, adam(1e-3)),
}


def main(name: str, batch: int) -> None:
    """Serve the twin of variant `name`."""
    torch.manual_seed(0)
    build, optimizer_of = TWINS[name]
    model = build()
    optimizer = optimizer_of(model)
    images = (torch.rand(IMAGES, 1, SIDE, SIDE) < 0.15).float()
    labels = torch.randint(CLASSES, [IMAGES])
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            chosen = torch.randint(IMAGES, [batch])
            optimizer.zero_grad(set_to_none=True)
            loss = model(images[chosen], labels[chosen])
            loss.backward()
            optimizer.step()
        float(loss.detach())
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
