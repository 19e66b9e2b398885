"""wav:/path: recordings as log-mel pictures; a folder per class, or names as free-spoken-digit-dataset has them."""

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mtl_jax.data.cache import Labelled, cached
from mtl_jax.data.sets.source import ANY_SPLIT, DataSet, Part, Request
from mtl_jax.data.tree import class_tree, fingerprint, list_files, split_folders

ABOUT = (
    "wav:/path  recordings as log-mel pictures: one sub-folder per class (below train/, val/, test/ where they exist), "
    "or files named LABEL_SPEAKER_NUMBER.wav; ?test=SPEAKER,SPEAKER&val=SPEAKER holds out speakers, else classes are "
    "split 64/16/20 (in folders by class, names begin SPEAKER_)"
)
OPTIONS = {
    "test": "speakers of the test split, separated by commas: then every split has all classes",
    "val": "speakers of the val split, alike",
    "seconds": "length of a recording; longer ones are cut, shorter ones end in silence (1)",
    "rate": "samples per second that recordings are brought to (8000)",
    "seed": "of the draw that splits the classes (0), where neither folders nor speakers do",
}
SUFFIXES = frozenset((".wav",))
NAMED = re.compile(r"(?P<label>[^_]+)_(?P<speaker>[^_]+)_(?P<number>\d+)$")
SIZE = 64  # mel bands, and moments in time, unless told otherwise
FLOOR = 80.0  # dB below a recording's loudest place that are told apart

Files = dict[str, list[Path]]  # class -> its recordings


def log_mel(sound: np.ndarray, rate: int, size: int = SIZE, seconds: float = 1.0) -> np.ndarray:
    """A recording's power by mel band and time, in decibels below its loudest place.

    Args:
        sound: [samples] float.
        rate: samples per second.
        size: mel bands, and moments in time.
        seconds: how long the picture is; what is longer is cut, what is shorter ends in silence.

    Returns:
        [size, size] uint8, low tones at the top: 255 where it is loudest, 0 from 80 dB below.

    Reference: Stevens, Volkmann and Newman 1937 (the mel scale; here 2595 log10(1 + f / 700)).
    """
    from scipy import signal  # more than a second, which other data sets are spared

    samples = round(seconds * rate)
    sound = np.pad(sound[:samples], (0, max(0, samples - len(sound))))
    window = max(2, round(0.025 * rate))
    bins = 1 << (max(window, 4 * size) - 1).bit_length()  # fine enough for the lowest bands to have a bin each
    hop = max(1, samples // size)
    transform = signal.ShortTimeFFT(np.hanning(window), hop, rate, mfft=bins)
    power = transform.spectrogram(sound, p0=0, p1=size)
    mel = _mel_bands(size, transform.f) @ power
    loudest = mel.max()
    if loudest <= 0:
        return np.zeros((size, size), np.uint8)
    decibel = 10 * np.log10(np.maximum(mel / loudest, 10 ** (-FLOOR / 10)))
    return np.round((1 + decibel / FLOOR) * 255).astype(np.uint8)


def read_sound(path: Path, rate: int) -> np.ndarray:
    """A WAV file's samples [n] float64 in [-1, 1], its channels' mean, at `rate` samples per second."""
    from scipy import signal
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that it does not know
        own, sound = wavfile.read(path)
    if sound.dtype == np.uint8:
        sound = (sound.astype(np.float64) - 128) / 128
    elif np.issubdtype(sound.dtype, np.integer):
        sound = sound / -float(np.iinfo(sound.dtype).min)
    sound = sound.mean(1) if sound.ndim == 2 else sound
    if not len(sound) or not np.isfinite(sound).all():
        raise ValueError("it has no samples, or some that are not finite")
    return np.asarray(sound, np.float64) if own == rate else signal.resample_poly(sound, rate, own)


def open_set(request: Request) -> DataSet:
    """Find the recordings of a folder and the splits they are in.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no recordings, or a speaker is asked for who is not there.
    """
    root, size = Path(request.where).expanduser(), request.image_size or SIZE
    seconds, rate = _number(request, "seconds", 1.0), int(_number(request, "rate", 8000))
    found, notes = split_folders(root, "recordings")
    if found:
        trees = {split: class_tree(folder, SUFFIXES, "recordings") for split, folder in found.items()}
        classes = {split: tree.files for split, tree in trees.items()}
        notes += tuple(note for tree in trees.values() for note in tree.notes)
    else:
        files, by_name, more = _whole(root)
        classes, notes = {ANY_SPLIT: files}, notes + more
    held = {split: request.options[split].split(",") for split in ("val", "test") if request.options.get(split)}
    if held:
        if found:
            raise ValueError(f"{root} has folders for its splits: leave out ?{'&'.join(held)}=, or give another folder")
        classes = _by_speaker(files, by_name, held)
    parts = {split: _part(request, files, size, seconds, rate) for split, files in classes.items()}
    return DataSet(parts, (size, size, request.channels or 1), notes=notes)


def _whole(root: Path) -> tuple[Files, bool, tuple[str, ...]]:
    """All recordings by class, whether that is by their names (in a flat folder or its recordings/), and notes."""
    for folder in (root, root / "recordings"):
        flat = list_files(folder, SUFFIXES) if folder.is_dir() else []
        named = [(match["label"], path) for path in flat if (match := NAMED.fullmatch(path.stem))]
        if named:
            files: Files = {}
            for label, path in named:
                files.setdefault(label, []).append(path)
            left = len(flat) - len(named)
            note = f"{folder}: left out {left} recordings whose names are not LABEL_SPEAKER_NUMBER.wav"
            return files, True, ((note,) if left else ())
    tree = class_tree(root, SUFFIXES, "recordings")
    return tree.files, False, tree.notes


def _by_speaker(files: Files, by_name: bool, held: Mapping[str, Sequence[str]]) -> dict[str, Files]:
    """All classes in each split, by who speaks: those named for val and test, and all others for train."""
    place = 1 if by_name else 0  # LABEL_SPEAKER_NUMBER in a flat folder, SPEAKER_... in folders by class
    named = {path: path.stem.split("_")[place] for paths in files.values() for path in paths}
    speakers = sorted(set(named.values()))
    split_of = {speaker: split for split, chosen in held.items() for speaker in chosen}
    if unknown := sorted(set(split_of) - set(speakers)):
        some = ", ".join(speakers[:8]) + (", ..." if len(speakers) > 8 else "")
        raise ValueError(f"no recording of a speaker {unknown[0]!r}: choose from {some}")
    if len(split_of) < sum(map(len, held.values())):
        raise ValueError("a speaker is named for val and for test: hold each out once")
    splits: dict[str, Files] = {split: {} for split in ("train", *held)}
    for label, paths in files.items():
        for path in paths:
            splits[split_of.get(named[path], "train")].setdefault(label, []).append(path)
    if not splits["train"]:
        raise ValueError(f"all {len(speakers)} speakers are held out: leave some for train")
    return splits


def _part(request: Request, files: Files, size: int, seconds: float, rate: int) -> Part:
    def read(wanted: frozenset[str] | None) -> Labelled:
        chosen = {name: paths for name, paths in files.items() if wanted is None or name in wanted}
        key = ["wav", size, seconds, rate, fingerprint(path for paths in chosen.values() for path in paths)]
        return cached("wav", key, partial(_read, chosen, size, seconds, rate), request.cache_dir)

    return Part(tuple(files), read)


def _read(files: Files, size: int, seconds: float, rate: int) -> Labelled:
    pictures: list[np.ndarray] = []
    labels, bad = [], []
    for label, (name, paths) in enumerate(files.items()):
        before = len(pictures)
        for path in paths:
            try:
                pictures.append(log_mel(read_sound(path, rate), rate, size, seconds))
            except (ValueError, OSError, EOFError) as error:
                bad.append(f"{path} ({error})")
        if len(pictures) == before:
            raise ValueError(f"class {name!r} runs empty, no recording can be read: {bad[-1]}")
        labels += [label] * (len(pictures) - before)
    notes = [f"skipped {len(bad)} recordings that cannot be read: {', '.join(bad[:5])}"] if bad else []
    return Labelled(np.stack(pictures)[..., None], np.asarray(labels, np.int32), tuple(files), tuple(notes))


def _mel_bands(count: int, frequencies: np.ndarray) -> np.ndarray:
    """[count, frequencies] triangles, evenly spaced in mel, each from its lower neighbour's top to its upper's."""
    mel = 2595 * np.log10(1 + frequencies / 700)
    edges = np.linspace(0, mel[-1], count + 2)
    low, top, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.clip(np.minimum((mel - low) / (top - low), (high - mel) / (high - top)), 0, None)


def _number(request: Request, option: str, usual: float) -> float:
    said = request.options.get(option, str(usual))
    try:
        value = float(said)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise ValueError(f"{option} must be a number above 0, not {said!r}")
    return value
