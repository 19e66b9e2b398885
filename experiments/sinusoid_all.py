"""Sinusoid regression by every method that does regression: errors after 1, 5 and 10 steps from 5, 10 and 20 shots.

Papers: named in each method's docstring (python -c "help(mtl_jax.learners.NAME)"); the task is Finn et al. 2017's,
    arXiv 1703.03400.
Command: python experiments/sinusoid_all.py [METHOD ...] [--steps 20000] [--out runs/sinusoid_all]
    It goes on where it stopped: methods in OUT/result.json are not run again.
Setting: MLP 40-40, trained on 25 tasks of 10 + 10 points a meta-step, seed 0; Adam 1e-3 cosine, but Reptile SGD 1
    linear; LSTM a twentieth of the steps; rates and steps of each inner loop below, inner gradients clipped to ±10 but
    for Reptile, LSTM and r2d2 (without, a rare task diverges after 5 or 10 steps); 1,000 test tasks of 100 query
    points. No normalisation. r2d2 solves in closed form, so that its steps do not differ.
Result: the table in README.md; 10 shots, 10 steps: maml 0.18 ± 0.01, mamlpp 0.06 ± 0.01, reptile 0.16 ± 0.02, imaml
    1.07 ± 0.07, lstm 1.33 ± 0.10, r2d2 0.00 ± 0.00 (mean squared error).
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import optax
from tools import fill_methods

from mtl_jax import Learner, evaluate, learners, models, train
from mtl_jax.data import sources
from mtl_jax.data.sinusoid import SinusoidPool
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.optimizer import meta_optimizer
from mtl_jax.run.progress import Progress

INNER = {  # rate and steps of the inner loop in training
    "maml": (0.01, 1), "fomaml": (0.01, 1), "anil": (0.01, 5), "boil": (0.01, 1), "meta_sgd": (0.01, 1),
    "mamlpp": (0.003, 5), "imaml": (0.005, 16), "reptile": (0.005, 10), "lstm": (None, 5), "r2d2": (None, None),
}  # fmt: skip
OWN = {"reptile": {"inner_rule": "sgd"}, "imaml": {"damping": 1.0, "regularization": 2.0}}
SHOTS, STEPS, LESS = (5, 10, 20), (1, 5, 10), {"lstm": 20}  # a step of which takes 0.2 s


def learner(name: str, test_steps: int | None = None) -> Learner:
    """The method, adapting by `test_steps`."""
    rate, steps = INNER[name]
    if steps is None:
        return learners.r2d2(models.mlp(None))
    settings = {"inner_steps": steps, "test_steps": test_steps, **OWN.get(name, {})}
    if name not in ("reptile", "lstm"):  # a rare task's gradients explode after more steps than the training took
        settings["inner_optimizer"] = optax.chain(optax.clip(10.0), optax.sgd(rate))
    return getattr(learners, name)(models.mlp(1), **settings | ({"inner_lr": rate} if rate else {}))


def measure(name: str, steps: int) -> dict:
    """Train, then test after every number of steps from every number of shots."""
    pool, draw, steps = SinusoidPool(), sources.sinusoids(shots=10, queries=10), steps // LESS.get(name, 1)
    outer = (1.0, steps, "linear", "sgd", None) if name == "reptile" else (1e-3, steps)
    with Progress(steps, name) as progress:
        run = train(
            learner(name), pool, jax.random.key(0), tasks=25, steps=steps, optimizer=meta_optimizer(*outer),
            source=draw, log_every=1000, callbacks=[progress],
        )  # fmt: skip
    if run.interrupted:
        raise KeyboardInterrupt
    rows = []
    for shots in SHOTS:
        for test_steps in STEPS:
            given, test = (learner(name, test_steps), run.theta, pool), sources.sinusoids(shots, 100)
            seen = evaluate(*given, jax.random.key(1), episodes=1000, source=test)
            rows.append({"shots": shots, "steps": test_steps, "mse": seen.mean, "ci95": seen.ci95})
    return {"method": name, "meta_steps": steps, "seconds": run.seconds, "inner": INNER[name], "test": rows}


def main() -> None:
    """Measure what is not measured yet, and print it; experiments/results.py makes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=list(INNER), help="default: all")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--out", type=Path, default=Path("runs/sinusoid_all"))
    args = parser.parse_args()
    configure_cpu()
    record, about = args.out / "result.json", {"experiment": "sinusoid_all", "meta_steps": args.steps}
    rows = fill_methods(record, about, args.methods, partial(measure, steps=args.steps))
    for row in rows:
        print(row["method"], *(f"{t['shots']} shots, {t['steps']} steps: {t['mse']}" for t in row["test"]), sep="; ")


if __name__ == "__main__":
    main()
