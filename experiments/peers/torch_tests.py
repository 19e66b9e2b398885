"""Test episodes of PyTorch, drawn from made-up classes of 20 images and scored, as an evaluation does."""

import copy

import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch_nets import conv4

CLASSES, EACH = 423, 20  # Omniglot's test split


def drawing(args):
    """A function that draws one episode: support and query images, uint8 to [0, 1], and labels of both."""
    height, breadth, channels = args.image
    pool = torch.randint(0, 256, (CLASSES, EACH, channels, height, breadth), dtype=torch.uint8)
    ys = torch.arange(args.ways).repeat_interleave(args.shots)
    yq = torch.arange(args.ways).repeat_interleave(args.queries)

    def draw():
        classes = torch.randperm(CLASSES)[: args.ways]
        rows = torch.rand(args.ways, EACH).argsort(1)[:, : args.shots + args.queries]
        x = pool[classes[:, None], rows].float() / 255
        return x[:, : args.shots].flatten(0, 1), ys, x[:, args.shots :].flatten(0, 1), yq

    return draw


def test_protonet(args):
    """Score args.episodes episodes of ProtoNet, one at a time in rows or channels_last, or eight at a time (vmap)."""
    draw, model = drawing(args), conv4(args.image, args.width)
    layout = torch.channels_last if args.peer == "channels_last" else torch.contiguous_format
    model.to(memory_format=layout)
    params = dict(model.named_parameters())

    def logits(xs, xq):
        features = functional_call(model, params, (torch.cat((xs, xq)),)) if args.peer == "vmap" else model(
            torch.cat((xs, xq)).to(memory_format=layout)
        )  # fmt: skip
        centres = features[: len(xs)].view(args.ways, -1, features.shape[1]).mean(1)
        return -((features[len(xs) :, None] - centres) ** 2).sum(-1)

    return scoring(args, draw, logits=lambda xs, ys, xq: logits(xs, xq), context=torch.no_grad)


def test_maml(args):
    """Score args.episodes episodes of MAML: a copy of the model and SGD, torch.func in a loop, or vmap of eight."""
    draw, model = drawing(args), conv4(args.image, args.width, args.ways)
    start = {k: p.detach() for k, p in model.named_parameters()}

    def loss(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y)

    def functional(xs, ys, xq):
        params = start
        for _ in range(args.inner_steps):
            slope = grad(loss)(params, xs, ys)
            params = {k: p - 0.1 * slope[k] for k, p in params.items()}
        return functional_call(model, params, (xq,))

    def copied(xs, ys, xq):
        with torch.enable_grad():
            fast = copy.deepcopy(model)
            rule = torch.optim.SGD(fast.parameters(), lr=0.1)
            for _ in range(args.inner_steps):
                rule.zero_grad()
                F.cross_entropy(fast(xs), ys).backward()
                rule.step()
        return fast(xq)

    return scoring(args, draw, copied if args.peer == "copy" else functional, torch.no_grad)


def scoring(args, draw, logits, context):
    """A function that scores args.episodes episodes and gives their accuracies [episodes]."""
    together = 8 if args.peer == "vmap" else 1

    def score():
        seen = []
        with context():
            while len(seen) < args.episodes:
                tasks = [draw() for _ in range(min(together, args.episodes - len(seen)))]
                if together == 1:
                    xs, ys, xq, yq = tasks[0]
                    outputs = logits(xs, ys, xq)[None]
                else:
                    xs, ys, xq, yq = (torch.stack(part) for part in zip(*tasks, strict=True))
                    outputs = vmap(logits)(xs, ys, xq)
                seen += (outputs.argmax(-1) == yq).float().mean(-1).tolist()
        return seen

    return score
