"""From process start to the end of the first meta-step, in parts: what first_step.py starts, again and again.

Command: python own_first_step.py maml|protonet --dataset NAME --began SECONDS
    SECONDS is the clock (time.time) when the process was started. It prints one JSON object.
"""

import argparse
import json
import time


def main() -> None:
    """Train for one step, and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learner", choices=("maml", "protonet"))
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--width", type=int, default=64)
    args = parser.parse_args()
    from mtl_jax.run.backend import configure_cpu, use_compilation_cache

    use_compilation_cache()
    configure_cpu()
    import jax

    from mtl_jax import datasets, learners, models, train

    spent = {"trace": 0.0, "to_mlir": 0.0, "backend_compile": 0.0}

    def listen(event: str, seconds: float, **_: object) -> None:
        for name in spent:
            if event.startswith("/jax/core/compile/") and name in event:
                spent[name] += seconds

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.devices()
    imported = time.time()
    pool = datasets.load(args.dataset, "train")
    loaded = time.time()
    if args.learner == "maml":
        learner = learners.maml(models.conv4(5, args.width), inner_lr=0.4, inner_steps=5)
        size = {"ways": 5, "shots": 1, "queries": 15, "tasks": 8}
    else:
        learner = learners.protonet(models.conv4(None, args.width), ways=60)
        size = {"ways": 60, "shots": 1, "queries": 5, "tasks": 1}
    jax.block_until_ready(train(learner, pool, jax.random.key(0), **size, steps=1).theta)
    first = time.time()
    parts = dict(spent)
    jax.block_until_ready(train(learner, pool, jax.random.key(0), **size, steps=1).theta)
    print(
        json.dumps(
            {"seconds": first - args.began, "importing": imported - args.began, "reading": loaded - imported}
            | {"tracing": parts["trace"] + parts["to_mlir"], "compiling": parts["backend_compile"]}
            | {"second_train": time.time() - first}
        )
    )


if __name__ == "__main__":
    main()
