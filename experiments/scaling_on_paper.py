"""How far the task axis scales, on paper: compute per task against the bytes that all devices exchange per meta-step.

Command: python experiments/scaling_on_paper.py (a minute on a CPU; nothing is trained). It prints the table of
docs/distributed.md. Operations are counted in the traced meta-gradient of one task (`mtl_jax.app.cost.count_flops`);
what is exchanged is theta's gradient once, in a ring: 2 (N - 1) / N times its float32 bytes through each device's link.
Assumed of a device: 40 TFLOP/s reached, a link of 50 GB/s, and 10 microseconds per hop. "even" is the number of tasks
per device at which the exchange takes as long as the computing does; with fewer, adding devices gains less than half.
"""

import math

import jax
import jax.numpy as jnp

from mtl_jax import Episode, learners, models
from mtl_jax.app.cost import count_flops

FLOPS, LINK, HOP = 40e12, 50e9, 10e-6
CASES = {
    "maml, conv4-64, 28x28x1, 5 steps": (lambda: learners.maml(models.conv4(5, 64), 0.1, 5), (28, 28, 1), 1),
    "protonet, ResNet-12 64-128-256-512, 84x84x3": (
        lambda: learners.protonet(models.resnet12(None, (64, 128, 256, 512))),
        (84, 84, 3),
        5,
    ),
    "protonet, ViT-S/16, 224x224x3": (lambda: learners.protonet(models.vit("s")), (224, 224, 3), 5),
}


def main() -> None:
    """Print a row per case and number of devices."""
    print("| step | operations per task | gradient | devices | exchange | even at |\n|---|---|---|---|---|---|")
    for name, (make, shape, shots) in CASES.items():
        learner = make()
        x = jax.ShapeDtypeStruct((5 * shots, *shape), jnp.float32)
        query = jax.ShapeDtypeStruct((75, *shape), jnp.float32)
        labels = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (5 * shots, 75)]
        theta = jax.eval_shape(learner.init, jax.random.key(0), x)
        task = Episode(x, labels[0], query, labels[1], None)
        step = jax.make_jaxpr(jax.grad(lambda theta, task, of=learner: of.loss(theta, task)[0]))(theta, task)
        flops = count_flops(step.jaxpr)
        size = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(theta))
        for devices in (8, 256):
            seconds = 2 * (devices - 1) / devices * size / LINK + 2 * (devices - 1) * HOP
            even = seconds * FLOPS / flops
            print(
                f"| {name} | {flops / 1e9:,.1f} GFLOP | {size / 1e6:.1f} MB | {devices} "
                f"| {1000 * seconds:.2f} ms | {even:.2f} tasks per device |"
            )


if __name__ == "__main__":
    main()
