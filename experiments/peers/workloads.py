"""The workloads of bench_peers.py: what each is, and what to run for ours and for a peer."""

import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Workload(NamedTuple):
    """One row of the table.

    Attributes:
        about: what it is, for the page.
        learner: the peers' function in torch_steps.py; ours of `mtl-jax bench`, or of own_steps.py.
        sizes: options that all of them take.
        peers: names of the peers.
        ours: options of ours besides; None where own_steps.py runs it.
        repeats: timed steps of each process.
    """

    about: str
    learner: str
    sizes: str
    peers: tuple[str, ...]
    ours: str | None = ""
    repeats: int = 5


MAML = ("loop", "vmap", "higher", "torchopt", "compiled")
ROWS = ("rows", "channels_last", "compiled")
RESNET12 = "--model=resnet12 --width=64"
WORKLOADS = {
    "A": Workload(
        "MAML, second order, 5-way 1-shot, 15 queries, 8 tasks, 5 inner steps",
        "maml", "--ways=5 --queries=15 --tasks=8 --inner-steps=5", (*MAML, "vmap_conv"),
    ),
    "B": Workload(
        "the same with 1 query, 32 tasks, 1 inner step",
        "maml", "--ways=5 --queries=1 --tasks=32 --inner-steps=1", (*MAML, "vmap_conv"),
    ),
    "C": Workload(
        "A with 20 ways, 1 query, 16 tasks", "maml", "--ways=20 --queries=1 --tasks=16 --inner-steps=5", MAML,
    ),
    "D": Workload(
        "ProtoNet, 60-way 1-shot, 5 queries, one task", "protonet", "--ways=60 --queries=5 --tasks=1", ROWS,
    ),
    "E": Workload(
        "Reptile, 5-way, 10 images per class, 5 tasks, 5 Adam steps",
        "reptile", "--ways=5 --queries=9 --tasks=5 --inner-steps=5", ("rows",), "--inner-rule=adam",
    ),
    "F": Workload("A with 50 inner steps", "maml", "--ways=5 --queries=15 --tasks=8 --inner-steps=50", MAML[:4]),
    "G": Workload("A with 64 tasks", "maml", "--ways=5 --queries=15 --tasks=64 --inner-steps=5", MAML[:4]),
    "H": Workload(
        "ProtoNet, 20-way 1-shot, 5 queries, 84x84x3, one task",
        "protonet", "--ways=20 --queries=5 --tasks=1 --image=84x84x3", ROWS,
    ),
    "I": Workload(
        "MAML, second order, 5-way 1-shot, 15 queries, 4 tasks, 5 inner steps, 84x84x3, conv4-32",
        "maml", "--ways=5 --queries=15 --tasks=4 --inner-steps=5 --image=84x84x3 --width=32", MAML,
    ),
    "K": Workload(
        "MAML, second order, 5-way 5-shot, 15 queries, 4 tasks, 5 inner steps, 32x32x3",
        "maml", "--ways=5 --shots=5 --queries=15 --tasks=4 --inner-steps=5 --image=32x32x3", MAML,
    ),
    "L1": Workload(
        "pre-training, ResNet-12 of 64-128-256-512, batch of 64, 32x32x3",
        "pretrain", "--batch=64 --image=32x32x3", ROWS, f"{RESNET12} --tasks=1", 3,
    ),
    "L2": Workload(
        "MTL, the same network, 5-way 1-shot, 15 queries, 2 tasks, 20 inner steps of the head, 32x32x3",
        "mtl", "--ways=5 --queries=15 --tasks=2 --inner-steps=20 --image=32x32x3", ROWS, RESNET12, 3,
    ),
    "M": Workload(
        "sinusoid MAML, second order, MLP 40-40, 25 tasks of 10 + 10 points, 1 inner step, tasks drawn inside",
        "sinusoid", "--tasks=25 --inner-steps=1 --width=40", MAML, None,
    ),
    "N1": Workload(
        "an episode of evaluating ProtoNet, 5-way 1-shot, 15 queries",
        "test_protonet", "--ways=5 --queries=15 --episodes=200", ("rows", "channels_last", "vmap"), None, 3,
    ),
    "N2": Workload(
        "an episode of evaluating MAML, 10 inner steps, 5-way 1-shot, 15 queries",
        "test_maml", "--ways=5 --queries=15 --inner-steps=10 --episodes=64", ("copy", "loop", "vmap"), None, 3,
    ),
}  # fmt: skip
OWN_NAMES = {"pretrain": "finetune"}  # where ours has another


def own_command(workload: Workload, repeats: int | None = None) -> list[str]:
    """What times ours."""
    options = [*workload.sizes.split(), f"--repeats={repeats or workload.repeats}"]
    if workload.ours is None:
        return [sys.executable, str(HERE / "own_steps.py"), workload.learner, *options]
    learner = OWN_NAMES.get(workload.learner, workload.learner)
    return [sys.executable, "-m", "mtl_jax.cli", "bench", learner, "--json", *options, *workload.ours.split()]


def peer_command(workload: Workload, peer: str, python: str, repeats: int | None = None) -> list[str]:
    """What times a peer; `python` has the PyTorch peers."""
    if peer == "vmap_conv":  # of JAX, and on a CPU ten times as slow
        script = [sys.executable, str(HERE / "jax_vmap_conv.py"), workload.learner]
        return [*script, *workload.sizes.split(), f"--repeats={repeats or 1}"]
    options = [f"--peer={peer}", *workload.sizes.split(), f"--repeats={repeats or workload.repeats}"]
    return [python, str(HERE / "torch_steps.py"), workload.learner, *options]


def smaller(workload: Workload) -> tuple[str, ...]:
    """Options that take the place of earlier ones, to try a workload out."""
    tiny = ("--ways=2", "--queries=1")
    of_learner = {
        "maml": (*tiny, "--image=16x16x1", "--tasks=2", "--inner-steps=1"), "protonet": (*tiny, "--image=16x16x1"),
        "mtl": tiny, "pretrain": ("--batch=4",), "test_maml": ("--episodes=4",), "test_protonet": ("--episodes=4",),
    }  # fmt: skip
    return (*of_learner.get(workload.learner, ()), "--width=4", "--repeats=1")
