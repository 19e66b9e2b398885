"""mtl-jax bench: its figures fit together, and pre-training is timed on its batch."""

import json

import pytest
from command_line import mtl_jax


def test_bench_reports_every_figure(capfd):
    args = "--ways 2 --queries 1 --tasks 2 --inner-steps 1 --order 1 --image 16x16x1 --width 4 --repeats 2 --json"
    assert mtl_jax("bench", "maml", *args.split()) == 0
    got = json.loads(capfd.readouterr().out)
    assert 0 < got["step_ms_min"] <= got["step_ms"] < got["first_ms"]
    assert got["tasks_per_s"] == pytest.approx(2000 / got["step_ms"])
    assert min(got["temp_mib"], got["rss_mib"], got["flops"]) > 0
    assert (got["learner"], got["order"], got["image"], got["device"]) == ("maml", 1, "16x16x1", "cpu")
    assert set(got["shares"]) == {"matrix", "memory", "dispatch"}
    assert got["share"] == pytest.approx(got["flops"] / (1e6 * got["step_ms"]) / got["matmul_gflops"])


def test_bench_times_pre_training_on_its_batch(capfd):
    args = "--tasks 1 --image 16x16x1 --width 4 --repeats 1 --json --batch"
    flops = []
    for batch in ("8", "16"):
        assert mtl_jax("bench", "finetune", *args.split(), batch) == 0
        flops.append(json.loads(capfd.readouterr().out)["flops"])
    assert 1.9 < flops[1] / flops[0] <= 2
