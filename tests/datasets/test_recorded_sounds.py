import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worldjepa.datasets.recorded_sounds import find_fsdd, load_fsdd, load_wav_folder

soundfile = pytest.importorskip("soundfile", reason="reading sound needs the extra signals")


def tone(samples: int, number: int = 0) -> np.ndarray:
    return (0.5 * np.sin(0.01 * (number + 1) * np.arange(samples))).astype(np.float32)


def write_digits(folder: Path, indices=(0, 4, 5, 49)) -> None:
    for digit in (3, 7):
        for index in indices:
            soundfile.write(folder / f"{digit}_theo_{index}.wav", tone(1000 + index, digit), 8000, "FLOAT")


def write_classes(folder: Path, number: int = 4) -> None:
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir()
        for index in range(number):
            soundfile.write(folder / name / f"{index}.wav", tone(300 + index, label), 16000, "FLOAT")


def test_digits_are_split_officially_and_keep_their_lengths(tmp_path):
    write_digits(tmp_path)
    train, held_out = load_fsdd(seed=3, folder=tmp_path, seconds=0.13)
    assert held_out.observation["length"].tolist() == [1000, 1000, 1004, 1004]
    assert train.observation["length"].tolist() == [1005, 1005, 1040, 1040], "longer recordings are cut off"
    assert train.labels.tolist() == [3, 7, 3, 7] and train.names[7] == "7"
    wave = held_out.observation["wave"]
    assert wave.shape == (4, 1040) and wave.dtype == torch.float32 and (wave[0, 1000:] == 0).all()
    assert np.allclose(wave[1, :1000], tone(1000, 7), atol=1e-6)


def test_digits_are_found_through_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDJEPA_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="no spoken digits in"):
        find_fsdd()
    (tmp_path / "fsdd/recordings").mkdir(parents=True)
    write_digits(tmp_path / "fsdd/recordings")
    assert len(load_fsdd(seed=0)[0]) == 4
    monkeypatch.delenv("WORLDJEPA_DATA")
    with pytest.raises(ValueError, match=r"set WORLDJEPA_DATA .* data=tones needs no files"):
        find_fsdd()


def test_digits_with_other_names_or_without_a_held_out_part_are_refused(tmp_path):
    write_digits(tmp_path, indices=(5, 6))
    with pytest.raises(ValueError, match="none held out"):
        load_fsdd(seed=0, folder=tmp_path)
    soundfile.write(tmp_path / "seven.wav", tone(100), 8000)
    with pytest.raises(ValueError, match=r"seven\.wav: expected a name such as 7_jackson_32\.wav"):
        load_fsdd(seed=0, folder=tmp_path)


def test_a_folder_per_class_is_split_by_class(tmp_path):
    write_classes(tmp_path, 8)
    stereo = np.stack([tone(250), -tone(250)], 1)
    soundfile.write(tmp_path / "cat" / "0.wav", stereo, 16000, "FLOAT")
    train, held_out = load_wav_folder(seed=1, folder=tmp_path, held_out=0.25, seconds=0.02)
    assert train.names == ("cat", "dog") and train.observation["wave"].shape == (12, 320)
    assert torch.bincount(held_out.labels).tolist() == [2, 2]
    waves = torch.cat([train.observation["wave"], held_out.observation["wave"]])
    lengths = torch.cat([train.observation["length"], held_out.observation["length"]])
    silent = (waves == 0).all(1)
    assert silent.sum() == 1 and lengths[silent].tolist() == [250], "the mean of opposite channels is silence"
    again = load_wav_folder(seed=1, folder=tmp_path, held_out=0.25, seconds=0.02)[1]
    assert torch.equal(again.observation["wave"], held_out.observation["wave"])


def test_files_that_are_no_such_sound_are_named(tmp_path):
    write_classes(tmp_path)
    broken = tmp_path / "dog" / "broken.wav"
    for content, complaint in ((b"", "cannot be read"), (b"RIFF of nothing", "cannot be read")):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=rf"broken\.wav: {complaint}"):
            load_wav_folder(seed=0, folder=tmp_path)
    soundfile.write(broken, np.zeros(0, np.float32), 16000)
    with pytest.raises(ValueError, match=r"broken\.wav: is empty"):
        load_wav_folder(seed=0, folder=tmp_path)
    soundfile.write(broken, np.where(np.arange(100) == 7, np.nan, tone(100)), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"broken\.wav: holds numbers that are not finite"):
        load_wav_folder(seed=0, folder=tmp_path)
    soundfile.write(broken, tone(100), 44100)
    with pytest.raises(ValueError, match=r"broken\.wav: expected 16000 samples per second, got 44100"):
        load_wav_folder(seed=0, folder=tmp_path)


def test_folders_that_are_no_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got None; set data\.source\.folder"):
        load_wav_folder(seed=0, folder=None)
    with pytest.raises(ValueError, match=r"a sub-folder of \.wav files per class, got 0"):
        load_wav_folder(seed=0, folder=tmp_path)
    write_classes(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected at least 2 \.wav files to split, got 0"):
        load_wav_folder(seed=0, folder=tmp_path)


def test_a_missing_soundfile_names_its_extra(tmp_path, monkeypatch):
    write_digits(tmp_path)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'worldjepa\[signals\]'"):
        load_fsdd(seed=0, folder=tmp_path)


def test_the_real_digits():
    root = Path(os.environ.get("WORLDJEPA_DATA") or Path(__file__).parents[3] / "shared" / "data")
    folder = root / "fsdd" / "recordings"
    if not folder.is_dir():
        pytest.skip(f"no real spoken digits: {folder} is missing; set WORLDJEPA_DATA to a folder with fsdd/recordings")
    train, held_out = load_fsdd(seed=0, folder=folder)
    assert (len(train), len(held_out)) == (2700, 300)
    assert torch.bincount(held_out.labels).tolist() == [30] * 10 and len(train.labels[:600].unique()) == 10
    length = torch.cat([train.observation["length"], held_out.observation["length"]])
    assert (length == 8000).sum() == 20 and length.min() == 1148
    assert train.observation["wave"].abs().amax(1).min() > 0.005
