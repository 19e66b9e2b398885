"""One meta-step as JAX code usually writes it: `lax.conv`, and vmap over all tasks at once.

Command: python jax_vmap_conv.py maml|protonet [--ways 5] [--shots 1] [--queries 15] [--tasks 8] [--inner-steps 5]
    [--image 28x28x1] [--width 64] [--repeats 1]
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
import optax


def init(key, image, width, ways):
    """conv4's parameters."""
    blocks, inputs = [], image[2]
    for each in jax.random.split(key, 4):
        kernel = 0.05 * jax.random.normal(each, (3, 3, inputs, width))
        blocks.append({"kernel": kernel, "scale": jnp.ones(width), "shift": jnp.zeros(width)})
        inputs = width
    features = width * (image[0] // 16) * (image[1] // 16)
    return {"blocks": blocks, "head": jnp.zeros((features, ways)), "bias": jnp.zeros(ways)}


def embed(params, x):
    """Features of x [n, height, width, channels]."""
    for block in params["blocks"]:
        x = jax.lax.conv_general_dilated(x, block["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = block["scale"] * (x - mean) * jax.lax.rsqrt(var + 1e-5) + block["shift"]
        x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(len(x), -1)


def loss(params, x, y):
    """Mean cross-entropy."""
    logits = embed(params, x) @ params["head"] + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def main():
    """Time steps, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learner", choices=("maml", "protonet"))
    for name, value in {"ways": 5, "shots": 1, "queries": 15, "tasks": 8, "inner-steps": 5, "repeats": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--image", type=lambda s: tuple(map(int, s.split("x"))), default=(28, 28, 1))
    args = parser.parse_args()
    rule = optax.adam(1e-3)

    def task_loss(params, task):
        support_x, support_y, query_x, query_y = task
        if args.learner == "protonet":
            features = embed(params, jnp.concatenate((support_x, query_x)))
            means = features[: len(support_x)].reshape(args.ways, args.shots, -1).mean(1)
            far = jnp.square(features[len(support_x) :, None] - means).sum(-1)
            return optax.softmax_cross_entropy_with_integer_labels(-far, query_y).mean()
        for _ in range(args.inner_steps):
            grads = jax.grad(loss)(params, support_x, support_y)
            params = jax.tree.map(lambda p, g: p - 0.4 * g, params, grads)
        return loss(params, query_x, query_y)

    @jax.jit
    def step(params, state, tasks):
        grads = jax.grad(lambda p: jax.vmap(task_loss, (None, 0))(p, tasks).mean())(params)
        updates, state = rule.update(grads, state)
        return optax.apply_updates(params, updates), state

    def part(key, each):
        labels = jnp.tile(jnp.repeat(jnp.arange(args.ways), each), (args.tasks, 1))
        return jax.random.normal(key, (*labels.shape, *args.image)), labels

    keys = jax.random.split(jax.random.key(0), 3)
    tasks = (*part(keys[0], args.shots), *part(keys[1], args.queries))
    params = init(keys[2], args.image, args.width, args.ways)
    state, times = rule.init(params), []
    for _ in range(1 + args.repeats):
        began = time.perf_counter()
        params, state = jax.block_until_ready(step(params, state, tasks))
        times.append(1000 * (time.perf_counter() - began))
    print(json.dumps({"step_ms": statistics.median(times[1:]), "first_ms": times[0]}))


if __name__ == "__main__":
    main()
