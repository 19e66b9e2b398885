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

INNER_LR = 0.1


def conv4(width, ways=None):
    """Four blocks of convolution, batch moments, ReLU and max-pool on 28x28 images, and a head if there are ways."""
    layers = []
    for channels in (1, width, width, width):
        norm = nn.BatchNorm2d(width, track_running_stats=False)
        layers += [nn.Conv2d(channels, width, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), *([nn.Linear(width, ways)] if ways else []))


def made_up(tasks, ways, each):
    """Images [tasks, ways * each, 1, 28, 28] and labels [tasks, ways * each]."""
    return torch.randn(tasks, ways * each, 1, 28, 28), torch.arange(ways).repeat_interleave(each).repeat(tasks, 1)


def maml(peer, model, opt, support, query, steps):
    """A function that takes one second-order step, written as `peer` would have it."""
    (xs, ys), (xq, yq) = support, query
    tasks = len(xs)

    def loss(params, x, y):
        return F.cross_entropy(functional_call(model, params, (x,)), y)

    def of_task(params, xs, ys, xq, yq):
        for _ in range(steps):
            slope = grad(loss)(params, xs, ys)
            params = {k: p - INNER_LR * slope[k] for k, p in params.items()}
        return loss(params, xq, yq)

    def functional():
        params = dict(model.named_parameters())
        if peer == "vmap":
            vmap(of_task, (None, 0, 0, 0, 0))(params, xs, ys, xq, yq).mean().backward()
            return
        for t in range(tasks):
            (of_task(params, xs[t], ys[t], xq[t], yq[t]) / tasks).backward()

    def with_higher():
        import higher

        inner = torch.optim.SGD(model.parameters(), lr=INNER_LR)
        for t in range(tasks):
            with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, rule):
                for _ in range(steps):
                    rule.step(F.cross_entropy(fast(xs[t]), ys[t]))
                (F.cross_entropy(fast(xq[t]), yq[t]) / tasks).backward()

    def with_torchopt():
        import torchopt

        inner = torchopt.MetaSGD(model, lr=INNER_LR)
        start = torchopt.extract_state_dict(model), torchopt.extract_state_dict(inner)
        for t in range(tasks):
            for _ in range(steps):
                inner.step(F.cross_entropy(model(xs[t]), ys[t]))
            (F.cross_entropy(model(xq[t]), yq[t]) / tasks).backward()
            torchopt.recover_state_dict(model, start[0])
            torchopt.recover_state_dict(inner, start[1])

    gradients = {"higher": with_higher, "torchopt": with_torchopt}.get(peer, functional)

    def step():
        opt.zero_grad()
        gradients()
        opt.step()

    return step


def protonet(peer, model, opt, support, query, steps):
    """A function that takes one step on one episode, in rows or in channels-last memory."""
    (xs, ys), (xq, yq) = ((x[0], y[0]) for x, y in (support, query))
    ways = int(ys.max()) + 1
    if peer == "channels_last":
        model.to(memory_format=torch.channels_last)

    def step():
        opt.zero_grad()
        features = model(torch.cat((xs, xq)))
        centres = features[: len(xs)].view(ways, -1, features.shape[1]).mean(1)
        F.cross_entropy(-(torch.cdist(features[len(xs) :], centres) ** 2), yq).backward()
        opt.step()

    return step


def reptile(peer, model, opt, support, query, steps):
    """A function that takes one step: Adam of b1 = 0 on each task, then towards the mean of where that ends."""
    (xs, ys), (xq, yq) = support, query
    x, y = torch.cat((xs, xq), 1), torch.cat((ys, yq), 1)
    params = list(model.parameters())

    def step():
        start = [p.detach().clone() for p in params]
        ends = [torch.zeros_like(p) for p in params]
        for t in range(len(x)):
            inner = torch.optim.Adam(params, 1e-3, betas=(0.0, 0.999))
            for _ in range(steps):
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


def main():
    """Time one workload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("learner", choices=("maml", "protonet", "reptile"))
    peers = "maml: loop vmap higher torchopt; protonet: rows channels_last; reptile: rows"
    parser.add_argument("--peer", default="loop", help=peers)
    for name, value in (("ways", 5), ("shots", 1), ("queries", 15), ("tasks", 8), ("inner-steps", 5), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    model = conv4(64, None if args.learner == "protonet" else args.ways)
    sets = (made_up(args.tasks, args.ways, each) for each in (args.shots, args.queries))
    build = {"maml": maml, "protonet": protonet, "reptile": reptile}[args.learner]
    step = build(args.peer, model, torch.optim.Adam(model.parameters(), 1e-3), *sets, args.inner_steps)
    times = []
    for _ in range(1 + args.repeats):
        began = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - began))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step_ms": statistics.median(times[1:]), "first_ms": times[0], "rss_mib": rss}))


if __name__ == "__main__":
    main()
