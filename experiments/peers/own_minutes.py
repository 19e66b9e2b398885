"""Ours of minutes_to_accuracy.py: train on Omniglot until a validation reaches the recipe's accuracy."""

import time

from recipes import CLIP, INNER_LR, META_LR, TEST_STEPS, Clock, arguments

from mtl_jax.run.backend import configure_cpu, use_compilation_cache


def main() -> None:
    """Train one recipe, and print one JSON object."""
    args = arguments(__doc__)
    clock = Clock(args)
    recipe = clock.recipe
    use_compilation_cache()
    configure_cpu()
    import jax

    from mtl_jax import datasets, evaluate, learners, models, train
    from mtl_jax.run.optimizer import meta_optimizer

    pool, val = (datasets.load("omniglot", split) for split in ("train", "val"))
    reading = time.time() - args.began
    if args.recipe == "maml":
        net = models.conv4(5, args.width, downsample="stride")
        learner = of_val = learners.maml(net, inner_lr=INNER_LR, inner_steps=1, test_steps=TEST_STEPS)
    else:
        net = models.conv4(None, args.width)
        learner, of_val = (learners.protonet(net, ways=ways) for ways in (recipe["ways"], 5))
    run = train(
        learner, pool, jax.random.key(0), ways=recipe["ways"], shots=1, queries=recipe["queries"],
        tasks=recipe["tasks"], steps=clock.limit, augment="rotations", val_learner=of_val, val_pool=val,
        optimizer=meta_optimizer(META_LR, recipe["steps"], clip=CLIP), val_size=(5, 1, recipe["val_queries"]),
        val_every=args.val_every or recipe["val_every"], val_episodes=args.episodes,
        callbacks=[lambda row: "val_accuracy" in row and clock.seen(row["step"], row["val_accuracy"])],
    )  # fmt: skip
    seen = evaluate(of_val, run.theta, val, jax.random.key(2), ways=5, shots=1, queries=15, episodes=args.episodes)
    clock.report(reading=reading, with_15_queries=seen.accuracy)


if __name__ == "__main__":
    main()
