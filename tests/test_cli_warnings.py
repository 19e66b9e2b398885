"""What the command line says on standard error beside its errors."""

import logging

import numpy as np

from mtl_jax import cli


def test_a_warning_is_said_once_per_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's, beside which the command line adds none of its own
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", x=rng.normal(size=(60, 4)).astype(np.float32), y=np.repeat(np.arange(12), 5))
    train = ("train", "protonet", "--dataset", f"npz:{tmp_path / 'own.npz'}", "--model", "linear", "--no-cache")
    size = ("--ways", "2", "--shots", "1", "--queries", "2", "--tasks", "1", "--steps", "1", "--val-episodes", "2")
    cli.main([*train, *size, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert said.count("has no splits of its own") == 1, said
    line = logging.makeLogRecord({"msg": "%d of %d", "args": (1, 2)})
    other = logging.makeLogRecord({"msg": "%d of %d", "args": (2, 2)})
    is_new = cli.once_each()
    assert [is_new(each) for each in (line, other, line, other)] == [True, True, False, False]
