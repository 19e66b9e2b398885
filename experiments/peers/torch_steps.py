"""One meta-step of PyTorch on made-up episodes, timed: what bench_peers.py sets beside `mtl-jax bench`.

It runs in an environment of its own, with torch, higher and torchopt, and prints one JSON object.
A meta-step adapts every task on its support set, differentiates the mean query loss, and takes one Adam step.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch_nets import ResNet12, conv4, made_up
from torch_tests import test_maml, test_protonet

INNER_LR = 0.1


def adam(model):
    """The outer rule, for what is learned of a model."""
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)


def maml_step(peer, model, draw, steps):
    """A function that takes one second-order step on the tasks that draw() gives, written as `peer` would have it."""
    opt = adam(model)
    objective = F.mse_loss if isinstance(model[0], nn.Linear) else F.cross_entropy

    def loss(params, x, y):
        return objective(functional_call(model, params, (x,)), y)

    def of_task(params, xs, ys, xq, yq):
        for _ in range(steps):
            slope = grad(loss)(params, xs, ys)
            params = {k: p - INNER_LR * slope[k] for k, p in params.items()}
        return loss(params, xq, yq)

    def of_all(params, *tasks):
        return vmap(of_task, (None, 0, 0, 0, 0))(params, *tasks).mean()

    slopes = torch.compile(grad(of_all)) if peer == "compiled" else None

    def functional(xs, ys, xq, yq):
        params = dict(model.named_parameters())
        if peer == "vmap":
            of_all(params, xs, ys, xq, yq).backward()
        elif peer == "compiled":
            with torch.no_grad():  # torch.func's own gradient is the only one
                found = slopes({k: p.detach() for k, p in params.items()}, xs, ys, xq, yq)
            for k, p in params.items():
                p.grad = found[k]
        else:
            for t in range(len(xs)):
                (of_task(params, xs[t], ys[t], xq[t], yq[t]) / len(xs)).backward()

    def with_higher(xs, ys, xq, yq):
        import higher

        inner = torch.optim.SGD(model.parameters(), lr=INNER_LR)
        for t in range(len(xs)):
            with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, rule):
                for _ in range(steps):
                    rule.step(objective(fast(xs[t]), ys[t]))
                (objective(fast(xq[t]), yq[t]) / len(xs)).backward()

    def with_torchopt(xs, ys, xq, yq):
        import torchopt

        inner = torchopt.MetaSGD(model, lr=INNER_LR)
        start = torchopt.extract_state_dict(model), torchopt.extract_state_dict(inner)
        for t in range(len(xs)):
            for _ in range(steps):
                inner.step(objective(model(xs[t]), ys[t]))
            (objective(model(xq[t]), yq[t]) / len(xs)).backward()
            torchopt.recover_state_dict(model, start[0])
            torchopt.recover_state_dict(inner, start[1])

    gradients = {"higher": with_higher, "torchopt": with_torchopt}.get(peer, functional)

    def step():
        opt.zero_grad()
        gradients(*draw())
        opt.step()

    return step


def maml(args):
    """Second-order MAML on images; args.peer is loop or vmap (torch.func), compiled (vmap), higher or torchopt."""
    tasks = (*made_up(args.tasks, args.ways, args.shots, args.image),)
    tasks += made_up(args.tasks, args.ways, args.queries, args.image)
    return maml_step(args.peer, conv4(args.image, args.width, args.ways), lambda: tasks, args.inner_steps)


def sinusoid(args):
    """MAML on sinusoids of 10 + 10 points, drawn anew in every step; an MLP of two hidden layers."""
    width = args.width
    model = nn.Sequential(
        nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )  # fmt: skip

    def draw():
        amplitude = torch.empty(args.tasks, 1, 1).uniform_(0.1, 5.0)
        phase = torch.empty(args.tasks, 1, 1).uniform_(0.0, torch.pi)
        x = torch.empty(args.tasks, 20, 1).uniform_(-5.0, 5.0)
        y = amplitude * torch.sin(x - phase)
        return x[:, :10], y[:, :10], x[:, 10:], y[:, 10:]

    return maml_step(args.peer, model, draw, args.inner_steps)


def laid_out(model, x, peer):
    """(The model, compiled if asked for, and x) in the memory layout of `peer`: rows, channels_last or compiled."""
    if peer != "rows":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return (torch.compile(model) if peer == "compiled" else model), x


def protonet(args):
    """A step on one episode, in rows or in channels-last memory, or compiled."""
    (xs, _), (xq, yq) = (made_up(1, args.ways, each, args.image) for each in (args.shots, args.queries))
    model = conv4(args.image, args.width)
    opt, (model, x) = adam(model), laid_out(model, torch.cat((xs[0], xq[0])), args.peer)
    support = len(xs[0])

    def step():
        opt.zero_grad()
        features = model(x)
        centres = features[:support].view(args.ways, -1, features.shape[1]).mean(1)
        F.cross_entropy(-(torch.cdist(features[support:], centres) ** 2), yq[0]).backward()
        opt.step()

    return step


def reptile(args):
    """A step of Adam of b1 = 0 on each task, then towards the mean of where that ends."""
    (xs, ys), (xq, yq) = (made_up(args.tasks, args.ways, each, args.image) for each in (args.shots, args.queries))
    x, y = torch.cat((xs, xq), 1), torch.cat((ys, yq), 1)
    model = conv4(args.image, args.width, args.ways)
    params, opt = list(model.parameters()), adam(model)

    def step():
        start = [p.detach().clone() for p in params]
        ends = [torch.zeros_like(p) for p in params]
        for t in range(len(x)):
            inner = torch.optim.Adam(params, 1e-3, betas=(0.0, 0.999))
            for _ in range(args.inner_steps):
                rows = torch.randperm(len(x[t]))[:10]
                inner.zero_grad()
                F.cross_entropy(model(x[t][rows]), y[t][rows]).backward()
                inner.step()
            with torch.no_grad():
                for p, first, end in zip(params, start, ends, strict=True):
                    end += p / len(x)
                    p.copy_(first)
        for p, first, end in zip(params, start, ends, strict=True):
            p.grad = first - end
        opt.step()

    return step


def pretrain(args):
    """A step of pre-training ResNet-12 on a batch of 64 images of 64 classes."""
    model = ResNet12(args.image[2], args.width, 64)
    opt, y = adam(model), torch.randint(0, 64, (args.batch,))
    model, x = laid_out(model, made_up(1, 1, args.batch, args.image)[0][0], args.peer)

    def step():
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()

    return step


def mtl(args):
    """A step of MTL: the head adapts on features made once; scales, shifts and the head's start are learned."""
    (xs, ys), (xq, yq) = (made_up(args.tasks, args.ways, each, args.image) for each in (args.shots, args.queries))
    model, head = ResNet12(args.image[2], args.width, None, learned=True), nn.Linear(8 * args.width, args.ways)
    opt = torch.optim.Adam([p for m in (model, head) for p in m.parameters() if p.requires_grad], 1e-3)
    model, _ = laid_out(model, xs[0], args.peer)
    if args.peer != "rows":
        xs, xq = ([x.to(memory_format=torch.channels_last) for x in part] for part in (xs, xq))

    def step():
        opt.zero_grad()
        for t in range(args.tasks):
            features, (weight, bias) = model(xs[t]), head.parameters()
            for _ in range(args.inner_steps):
                loss = F.cross_entropy(F.linear(features, weight, bias), ys[t])
                slope = torch.autograd.grad(loss, (weight, bias), create_graph=True)
                weight, bias = weight - INNER_LR * slope[0], bias - INNER_LR * slope[1]
            (F.cross_entropy(F.linear(model(xq[t]), weight, bias), yq[t]) / args.tasks).backward()
        opt.step()

    return step


STEPS = (maml, sinusoid, protonet, reptile, pretrain, mtl, test_protonet, test_maml)


def main():
    """Time one workload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("learner", choices=[each.__name__ for each in STEPS])
    parser.add_argument("--peer", default="loop", help="how it is written: see each function's own words")
    sizes = {"ways": 5, "shots": 1, "queries": 15, "tasks": 8, "inner-steps": 5, "width": 64, "batch": 64, "repeats": 7}
    for name, value in (sizes | {"episodes": 100, "threads": 2}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--image", type=lambda s: tuple(map(int, s.split("x"))), default=(28, 28, 1))
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    step = next(each for each in STEPS if each.__name__ == args.learner)(args)
    turns, per_turn = (1, args.episodes) if args.learner.startswith("test") else (50 if args.width == 40 else 1, 1)
    times = []
    for _ in range(1 + args.repeats):
        began = time.perf_counter()
        for _ in range(turns):
            step()
        times.append(1000 * (time.perf_counter() - began) / turns / per_turn)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step_ms": statistics.median(times[1:]), "first_ms": times[0], "rss_mib": rss}))


if __name__ == "__main__":
    main()
