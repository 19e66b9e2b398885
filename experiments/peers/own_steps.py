"""Ours where `mtl-jax bench` makes no such tasks: MAML on sinusoids drawn inside the step, and test episodes.

Command: python own_steps.py sinusoid|test_protonet|test_maml [--ways 5] [--shots 1] [--queries 15] [--tasks 25]
    [--inner-steps 1] [--width 64] [--image 28x28x1] [--episodes 600] [--repeats 5]
It prints one JSON object with the keys of `mtl-jax bench`; step_ms of test episodes is per episode.
"""

import argparse
import json
import resource
import statistics
import time
from functools import partial

from mtl_jax.run.backend import compiler_options, configure_cpu, use_compilation_cache

configure_cpu()  # before JAX is used

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from mtl_jax import ClassPool, evaluate, learners, models  # noqa: E402
from mtl_jax.app.cost import count_flops  # noqa: E402
from mtl_jax.app.rates import Rates  # noqa: E402
from mtl_jax.data import sources  # noqa: E402
from mtl_jax.data.sinusoid import SinusoidPool  # noqa: E402
from mtl_jax.run.evaluate import compiled_scores  # noqa: E402
from mtl_jax.run.optimizer import meta_optimizer  # noqa: E402
from mtl_jax.run.parallel import replicate  # noqa: E402
from mtl_jax.run.step import compiled_steps, take_steps  # noqa: E402
from mtl_jax.types import TrainState  # noqa: E402

TURNS = 2000  # steps of a call, as training takes them


def sinusoid(args):
    """(A call of TURNS meta-steps, how many, its program, and its operations' and products' counts in one of them)."""
    learner = learners.maml(models.mlp(1, (args.width, args.width)), 0.01, args.inner_steps)
    source, rule = sources.sinusoids(shots=10, queries=10), meta_optimizer(1e-3, 10**6, "constant")
    key, pool = jax.random.key(0), SinusoidPool()
    theta = learner.init(key, jnp.zeros((1, 1)))
    state = replicate(TrainState(theta, rule.init(theta), jnp.int32(0), key), args.tasks)
    static = (learner, source, rule, args.tasks, None)
    run = compiled_steps(*static).lower(state, pool, jnp.int32(TURNS)).compile()
    program = jax.make_jaxpr(partial(take_steps, *static, False))(state, pool, jnp.int32(TURNS))

    def call():
        nonlocal state
        state, *_ = jax.block_until_ready(run(state, pool, jnp.int32(TURNS)))

    return call, TURNS, run, program


def test_episodes(args):
    """(A call of `evaluate`, its episodes, its program, and that program's jaxpr)."""
    key = jax.random.key(0)
    images = np.random.default_rng(0).integers(0, 256, (423 * 20, *args.image), np.uint8)  # as Omniglot's test split
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(423), 20))
    learner = (
        learners.protonet(models.conv4(None, args.width), ways=args.ways)
        if args.what == "test_protonet"
        else learners.maml(models.conv4(args.ways, args.width), 0.1, args.inner_steps)
    )
    theta = learner.init(key, jnp.zeros((1, *args.image)))
    size = {"ways": args.ways, "shots": args.shots, "queries": args.queries}
    source = sources.of_pool(pool, **size)
    options = compiler_options(jax.eval_shape(source.draws[0], key, source.init(key), pool), args.episodes)
    scores = compiled_scores(learner, source, args.episodes, None, options)
    program, run = jax.make_jaxpr(scores)(theta, pool, key), scores.lower(theta, pool, key).compile()
    return lambda: evaluate(learner, theta, pool, key, **size, episodes=args.episodes), args.episodes, run, program


def main():
    """Time one workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sinusoid", "test_protonet", "test_maml"))
    sizes = {"ways": 5, "shots": 1, "queries": 15, "tasks": 25, "inner-steps": 1, "width": 64, "episodes": 600}
    for name, value in (sizes | {"repeats": 5}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--image", type=lambda s: tuple(map(int, s.split("x"))), default=(28, 28, 1))
    args = parser.parse_args()
    use_compilation_cache()
    began = time.perf_counter()
    call, turns, run, program = (sinusoid if args.what == "sinusoid" else test_episodes)(args)
    flops = count_flops(program.jaxpr)
    whole = args.what == "sinusoid"  # a loop of unknown length counts as one turn
    rates, times = Rates(run, flops if whole else flops / turns), []
    for _ in range(1 + args.repeats):
        start = time.perf_counter() if times else began
        call()
        times.append(1000 * (time.perf_counter() - start) / turns)
        rates.time()
    step_ms, memory = statistics.median(times[1:]), run.memory_analysis()
    shares = rates.shares(step_ms)
    if not whole:  # the program's operations are those of all episodes
        shares |= {name: shares[name] / turns for name in ("memory", "dispatch")}
    print(
        json.dumps(
            {"step_ms": step_ms, "step_ms_min": min(times[1:]), "first_ms": times[0] * turns, "shares": shares}
            | {"share": shares["matrix"], "matmul_gflops": rates.matmul_gflops(), "operations": rates.operations}
            | {"temp_mib": memory.temp_size_in_bytes / 2**20, "device": jax.devices()[0].device_kind}
            | {"rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        )
    )


if __name__ == "__main__":
    main()
