"""PyTorch's side of minutes_to_accuracy.py: the same recipe as its users write it, Omniglot read through TFDS.

MAML by torch.func under vmap, all tasks at once; ProtoNet in channels_last memory: the fastest forms of both here.
"""

import io
import json
import math
import os
import time
from pathlib import Path

import torch
from recipes import CLIP, INNER_LR, META_LR, TEST_STEPS, Clock, arguments
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch_nets import conv4

SPLITS = Path(__file__).parent.parent.parent / "mtl_jax" / "data" / "splits" / "omniglot.json"
EACH = 20  # drawings of a character


def read(splits):
    """uint8 images [classes, 20, 1, 28, 28] of each split, ink 255 on 0."""
    import numpy as np
    import tensorflow_datasets as tfds
    from PIL import Image, ImageOps

    folder = Path(os.environ["TFDS_DATA_DIR"]) / "omniglot" / "3.0.0"
    builder = tfds.builder_from_directory(folder)
    source = builder.as_data_source(decoders={"image": tfds.decode.SkipDecoding()})
    wanted = {label for split in splits.values() for label in split}
    images: dict[int, list] = {label: [] for label in wanted}
    for part in ("train", "test"):
        for first in range(0, len(source[part]), 4096):
            for record in source[part].__getitems__(range(first, min(first + 4096, len(source[part])))):
                if record["label"] in wanted:
                    image = ImageOps.invert(Image.open(io.BytesIO(record["image"])).convert("L"))
                    images[record["label"]].append(np.asarray(image.resize((28, 28), Image.Resampling.LANCZOS)))
    return {
        split: torch.from_numpy(np.stack([np.stack(images[label]) for label in labels]))[:, :, None]
        for split, labels in splits.items()
    }


def drawing(pool, ways, queries):
    """A function that draws one 5-way or 60-way 1-shot episode."""
    ys, yq = torch.arange(ways), torch.arange(ways).repeat_interleave(queries)

    def draw():
        classes = torch.randperm(len(pool))[:ways]
        rows = torch.rand(ways, EACH).argsort(1)[:, : 1 + queries]
        x = pool[classes[:, None], rows].float() / 255
        return x[:, 0], ys, x[:, 1:].flatten(0, 1), yq

    return draw


def strided(width, ways):
    """Four blocks of convolution of stride 2, batch moments and ReLU, a spatial mean, and a head."""
    layers = []
    for inputs in (1, width, width, width):
        norm = nn.BatchNorm2d(width, track_running_stats=False)
        layers += [nn.Conv2d(inputs, width, 3, stride=2, padding=1), norm, nn.ReLU()]
    head = nn.Linear(width, ways)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def protonet(args, recipe):
    """(The model, its loss on a step's episodes, what gives an episode's logits)."""
    model = conv4((28, 28, 1), args.width).to(memory_format=torch.channels_last)

    def logits(xs, ys, xq):
        features = model(torch.cat((xs, xq)).to(memory_format=torch.channels_last))
        return -(torch.cdist(features[len(xs) :], features[: len(xs)]) ** 2)  # one shot: a class's mean is its image

    def loss(episodes):
        ((xs, ys, xq, yq),) = episodes
        return F.cross_entropy(logits(xs, ys, xq), yq)

    return model, loss, logits


def maml(args, recipe):
    """(The model, its loss on a step's episodes, what gives an episode's logits)."""
    model = strided(args.width, recipe["ways"])

    def task_loss(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y)

    def adapt(params, xs, ys, steps):
        for _ in range(steps):
            slope = grad(task_loss)(params, xs, ys)
            params = {k: p - INNER_LR * slope[k] for k, p in params.items()}
        return params

    def of_task(params, xs, ys, xq, yq):
        return task_loss(adapt(params, xs, ys, 1), xq, yq)

    def loss(episodes):
        params, tasks = dict(model.named_parameters()), (torch.stack(part) for part in zip(*episodes, strict=True))
        return vmap(of_task, (None, 0, 0, 0, 0))(params, *tasks).mean()

    def logits(xs, ys, xq):
        params = {k: p.detach() for k, p in model.named_parameters()}
        return functional_call(model, adapt(params, xs, ys, TEST_STEPS), (xq,))

    return model, loss, logits


def main():
    """Train one recipe, and print one JSON object."""
    args = arguments(__doc__)
    clock = Clock(args)
    recipe, every = clock.recipe, args.val_every or clock.recipe["val_every"]
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    splits = json.loads(SPLITS.read_text())
    pools = read({split: splits[split] for split in ("train", "val")})
    turned = torch.cat([torch.rot90(pools["train"], k, (-2, -1)) for k in range(4)])  # four classes for each
    reading = time.time() - args.began
    draw = drawing(turned, recipe["ways"], recipe["queries"])
    tests = [drawing(pools["val"], 5, queries) for queries in (recipe["val_queries"], 15)]
    val_tasks, tasks_of_15 = ([one() for _ in range(args.episodes)] for one in tests)

    def accuracy(tasks):
        with torch.no_grad():
            right = [(logits(xs, ys, xq).argmax(-1) == yq).float().mean().item() for xs, ys, xq, yq in tasks]
        return sum(right) / len(right)

    model, loss, logits = (maml if args.recipe == "maml" else protonet)(args, recipe)
    opt = torch.optim.Adam(model.parameters(), META_LR)
    rate = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 0.5 * (1 + math.cos(math.pi * k / recipe["steps"])))
    for step in range(1, clock.limit + 1):
        opt.zero_grad()
        loss([draw() for _ in range(recipe["tasks"])]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        opt.step()
        rate.step()
        if (step % every == 0 or step == clock.limit) and clock.seen(step, accuracy(val_tasks)):
            break
    clock.report(reading=reading, with_15_queries=accuracy(tasks_of_15))


if __name__ == "__main__":
    main()
