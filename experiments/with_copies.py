"""Augmented copies at test: what they are worth to networks that are trained already, paired episode by episode.

Papers: Tian et al. 2020, arXiv 2003.11539, whose code takes five augmented copies of each support image; the others
    test without, so that these figures are not by their protocols, and stand here alone.
Command: python experiments/with_copies.py RUN [--dataset NAME] [--vary flip_crop|affine] [--support-copies 9]
    [--query-copies 0] [--ways 5] [--shots 1 5] [--norms transductive support] [--as-many] [--out runs/with_copies]; RUN
    is a run's folder, or the name of weights that come with the package
Setting: 1,000 test episodes of 15 queries, or of as many as shots (--as-many, transductive), each tested without copies
    and with them. Copies differ as images did in training: mirrored and cropped (flip_crop), or turned, stretched,
    sheared and moved a little (affine). Their numbers were chosen on validation classes (300 episodes).
Result: in docs/results.md. On validation classes, transductive, 5-way: R2-D2 on CIFAR-FS at 1 shot +1.1 ± 0.6 by 9
    copies of the support set, 1.0 by 19, 1.4 by 9 and 4 of each query; at 5 shots -0.8 ± 0.5 by 9 and -0.2 by 4 (its
    ridge is of a fixed weight, and more images make it less), +0.6 by 4 of each query alone, +1.0 ± 0.5 with 1 of the
    support set. protonet-cifar_fs at 1 shot +0.2 by 1, 1.3 by 4, 1.4 ± 0.6 by 9 of the support set; 0.6 by plain mirror
    images. RFS on mini-ImageNet at 1 shot +0.9 ± 0.5 by 9 for images of 42 pixels, of which a crop moves more than of
    84; its 4 at 5 shots are the authors' five images, not chosen. R2-D2 on mini-ImageNet has them as on CIFAR-FS, not
    chosen there. protonet-omniglot, then that of one_shot, at 20 ways and 1 shot +0.2 by 4, 0.4 ± 0.2 by 9, 0.4 by 9 of
    the queries too (the network of omniglot_protonet.py --setting mirrored +0.6 ± 0.2 by 9, of which the test classes
    show 0.2; its five best checkpoints together +0.0 ± 0.1); maml-omniglot by its paper's protocol +0.3 ± 0.4 by 4 and
    0.2 by 9. Under the norm of the support set, whose moments are then those of altered images too, that mirrored
    network loses 0.6 points on the test classes. By 9 copies of a 1-shot support set an episode takes 1.3 to 2 times as
    long; each copy of the queries adds its whole time again.
"""

import argparse
from itertools import product
from pathlib import Path

from tools import commit, one_line, score_run

from mtl_jax.app.copies import add_copies, copies_of
from mtl_jax.app.runs import read_settings
from mtl_jax.app.settings import NORMS
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.metrics import write_json


def main() -> None:
    """Test a network without and with copies, and leave result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--dataset", help="test here (default: the run's)")
    parser.add_argument("--ways", type=int, nargs="+", default=[5])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=["transductive", "support"])
    parser.add_argument("--as-many", action="store_true", help="as many queries as shots, transductive")
    parser.add_argument("--out", type=Path, default=Path("runs/with_copies"))
    add_copies(parser)
    parser.set_defaults(support_copies=9)
    args = parser.parse_args()
    configure_cpu()
    at = commit()
    with one_line(parser):
        settings = read_settings(args.run)
        if not (copies := copies_of(settings, vars(args))):
            raise ValueError("no copies are asked for: give --support-copies N or --query-copies N")
        rows = []
        for ways, shots in product(args.ways, args.shots):
            own = {"queries": shots, "norms": ("transductive",)} if args.as_many else {"norms": args.norms}
            size = {"ways": ways, "shots": (shots,), "episodes": args.episodes, "copies": copies}
            rows += score_run(args.run, args.dataset, **size, **own)
    about = {"experiment": "with_copies", "setting": f"the network of {Path(args.run).name}", "commit": at}
    about |= {"learner": settings.learner, "dataset": args.dataset or settings.task.dataset}
    write_json(args.out / "result.json", about | {"test": rows})
    print(args.out / "result.json")


if __name__ == "__main__":
    main()
