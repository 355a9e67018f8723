"""The dense variants' twins in JAX: many steps in one compiled scan; same losses, optimizers and batch.

Run by benchmarks/loop.py in the peers' environment, with a variant's name and the batch: each line on
standard input is a number of steps to take, each line on standard output the seconds that took. A number of
steps compiles a program of its own, in the first run of that length.
"""

import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

IMAGES, PIXELS, CLASSES = 10_000, 784, 10
GENERATED = PIXELS * 64 + 64 + 64 * CLASSES + CLASSES
"""Weights and biases of a 784-64-10 classifier."""

Weights = list[tuple[jax.Array, jax.Array]]
LossOf = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]


def dense(key: jax.Array, *widths: int) -> Weights:
    """Glorot uniform kernels and zero biases."""
    layers = []
    for fan_in, units in itertools.pairwise(widths):
        key, used = jax.random.split(key)
        limit = math.sqrt(6 / (fan_in + units))
        layers.append(
            (jax.random.uniform(used, [fan_in, units], minval=-limit, maxval=limit), jnp.zeros(units))
        )
    return layers


def forward(layers: Weights, values: jax.Array, activation: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Through the layers, the activation between them."""
    for kernel, bias in layers[:-1]:
        values = activation(values @ kernel + bias)
    kernel, bias = layers[-1]
    return values @ kernel + bias


def bernoulli(logits: jax.Array, images: jax.Array) -> jax.Array:
    """-log p(images), [B, PIXELS] -> [B]."""
    return jnp.sum(jax.nn.softplus(logits) - images * logits, axis=-1)


def log_normal(z: jax.Array, mean: jax.Array, log_var: jax.Array) -> jax.Array:
    """log N(z; mean, exp(log_var)) summed over the last axis."""
    return -0.5 * jnp.sum(math.log(2 * math.pi) + log_var + (z - mean) ** 2 * jnp.exp(-log_var), axis=-1)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch."""
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen)


def vae_loss(weights: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    encoder, decoder = weights
    mean, log_var = jnp.split(forward(encoder, images, jax.nn.relu), 2, axis=-1)
    z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
    rate = 0.5 * jnp.sum(mean**2 + jnp.exp(log_var) - 1 - log_var, axis=-1)
    return jnp.mean(bernoulli(forward(decoder, z, jax.nn.relu), images) + rate)


def iwae_loss(weights: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    """Five samples, doubly reparameterised gradient (Tucker et al. 2019)."""
    encoder, decoder = weights
    samples, stop = 5, jax.lax.stop_gradient
    repeat = functools.partial(jnp.repeat, repeats=samples, axis=0)
    mean, log_var = (repeat(part) for part in jnp.split(forward(encoder, images, jnp.tanh), 2, axis=-1))
    images = repeat(images)
    z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)

    def log_weights_at(fixed: jax.Array, decoder: Weights) -> jax.Array:
        joint = log_normal(fixed, 0.0, 0.0) - bernoulli(forward(decoder, fixed, jnp.tanh), images)
        return joint - log_normal(fixed, stop(mean), stop(log_var))

    log_weights, pull = jax.vjp(lambda fixed: log_weights_at(fixed, decoder), stop(z))
    slopes = stop(pull(jnp.ones_like(log_weights))[0])
    log_weights = log_weights.reshape(-1, samples)
    shares = stop(jax.nn.softmax(log_weights, axis=1))
    moved = jnp.sum(slopes * z, axis=-1).reshape(-1, samples)
    return -jnp.mean(jnp.sum(shares * log_weights + shares**2 * moved, axis=1))


def classifier_loss(weights: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    return cross_entropy(forward(weights, images, jax.nn.relu), labels)


def hypernet_loss(weights: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    """All weights of a 784-64-10 classifier, for each image its own."""
    made = jax.nn.sigmoid(forward(weights, images, jax.nn.relu))
    ends = [PIXELS * 64, PIXELS * 64 + 64, PIXELS * 64 + 64 + 64 * CLASSES]
    kernel1, bias1, kernel2, bias2 = jnp.split(made, ends, axis=-1)
    hidden = jax.nn.relu(jnp.einsum("bi,bio->bo", images, kernel1.reshape(-1, PIXELS, 64)) + bias1)
    return cross_entropy(jnp.einsum("bi,bio->bo", hidden, kernel2.reshape(-1, 64, CLASSES)) + bias2, labels)


def adam(rate: float) -> Callable[..., Any]:
    """weights, gradients, (first, second), step -> weights, (first, second)."""

    def update(weights: Any, gradients: Any, moments: Any, step: jax.Array) -> Any:
        first, second = moments
        first = jax.tree.map(lambda m, g: m + 0.1 * (g - m), first, gradients)
        second = jax.tree.map(lambda v, g: v + 0.001 * (g * g - v), second, gradients)
        scaled = rate * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        moved = jax.tree.map(lambda w, m, v: w - scaled * m / (jnp.sqrt(v) + 1e-7), weights, first, second)
        return moved, (first, second)

    return update


def sgd(rate: float) -> Callable[..., Any]:
    """The same without moments."""
    return lambda weights, gradients, moments, step: (
        jax.tree.map(lambda w, g: w - rate * g, weights, gradients),
        moments,
    )


def pair(key: jax.Array, encoder: Sequence[int], decoder: Sequence[int]) -> tuple[Weights, Weights]:
    """An encoder's and a decoder's weights."""
    return dense(key, *encoder), dense(jax.random.fold_in(key, 1), *decoder)


TWINS: dict[str, tuple[Callable[[jax.Array], Any], LossOf, Callable[..., Any]]] = {
    "hypernet": (lambda key: dense(key, PIXELS, 16, GENERATED), hypernet_loss, adam(1e-4)),
    "iwae": (
        lambda key: pair(key, (PIXELS, 200, 200, 100), (50, 200, 200, PIXELS)), iwae_loss, adam(1e-3)
    ),
    "linear": (lambda key: dense(key, PIXELS, CLASSES), classifier_loss, sgd(1e-3)),
    "mlp": (lambda key: dense(key, PIXELS, 32, 32, CLASSES), classifier_loss, adam(1e-3)),
    "vae_dense": (lambda key: pair(key, (PIXELS, 64, 64), (32, 64, PIXELS)), vae_loss, adam(1e-3)),
}  # fmt: skip


def main(name: str, batch: int) -> None:
    """Serve the twin of variant `name`."""
    build, loss_of, update = TWINS[name]
    weights = build(jax.random.key(0))
    images = (jax.random.uniform(jax.random.key(1), [IMAGES, PIXELS]) < 0.15).astype(jnp.uint8)
    labels = jax.random.randint(jax.random.key(2), [IMAGES], 0, CLASSES)

    @functools.partial(jax.jit, static_argnums=3)
    def run(weights: Any, moments: Any, key: jax.Array, steps: int) -> Any:
        def step(carry: Any, number: jax.Array) -> Any:
            weights, moments = carry
            own = jax.random.fold_in(key, number)
            chosen = jax.random.randint(own, [batch], 0, IMAGES)
            taken = images[chosen].astype(jnp.float32)
            loss, gradients = jax.value_and_grad(loss_of)(weights, taken, labels[chosen], own)
            return update(weights, gradients, moments, number + 1.0), loss

        return jax.lax.scan(step, (weights, moments), jnp.arange(steps))

    zeros = jax.tree.map(jnp.zeros_like, weights)
    moments = (zeros, zeros)
    compiled = set()
    for line in sys.stdin:
        steps = int(line)
        if steps not in compiled:
            jax.block_until_ready(run(weights, moments, jax.random.key(3), steps))
            compiled.add(steps)
        started = time.perf_counter()
        (weights, moments), losses = run(weights, moments, jax.random.key(4), steps)
        float(losses[-1])
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
