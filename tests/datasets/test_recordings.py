import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worldjepa.datasets.recordings import BEAT_GROUPS, load_edf, load_wfdb

RATE = 100
DATA = Path(os.environ.get("WORLDJEPA_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ecg"


def courses(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    """(samples,channels): each says who and when it is."""
    time = np.arange(samples) / RATE
    return np.stack([np.sin(2 * np.pi * (1 + c) * time + seed) + 0.01 * time for c in range(channels)], 1)


@pytest.fixture
def wfdb():
    return pytest.importorskip("wfdb", reason="the extra `signals` is not installed")


@pytest.fixture
def write_wfdb(wfdb, tmp_path):
    def write(name: str, samples: int = 2000, beats: dict[int, str] | None = None, folder: Path = tmp_path, seed=0):
        wfdb.wrsamp(
            name, RATE, ["mV"] * 3, ["I", "II", "V5"], courses(3, samples, seed), fmt=["16"] * 3, write_dir=str(folder)
        )
        if beats:
            wfdb.wrann(name, "atr", np.array(list(beats)), list(beats.values()), write_dir=str(folder))
        return tmp_path

    return write


def test_a_record_comes_back_in_windows_the_end_held_out(write_wfdb):
    folder = write_wfdb("a")
    write_wfdb("b", seed=1)
    train, held_out = load_wfdb(0, folder, ["v5", "I"], rate=RATE, seconds=1.5, held_out=0.25)
    # 2000 samples are 13 windows of 150; the moment is 1500, so that 10 end before it and 3 begin after it
    assert train.observation["ecg"].shape == (20, 2, 150) and held_out.observation["ecg"].shape == (6, 2, 150)
    assert train.names == ("a", "b") and train.labels.tolist() == [0] * 10 + [1] * 10
    assert train.observation["ecg"].dtype == torch.float32
    for number in (0, 9):
        expected = courses(3, 2000)[150 * number : 150 * (number + 1)]
        assert train.observation["ecg"][number].numpy() == pytest.approx(expected[:, [2, 0]].T, abs=1e-3)
    assert held_out.observation["ecg"][3].numpy() == pytest.approx(courses(3, 2000, 1)[1500:1650, [2, 0]].T, abs=1e-3)
    only, _ = load_wfdb(0, folder, ["I"], rate=RATE, seconds=1.5, records=["b"])
    assert only.names == ("b",)


def test_windows_lie_around_annotated_beats_and_are_named_by_their_group(write_wfdb):
    beats = {30: "N", 500: "L", 700: "V", 900: "+", 1000: "A", 1480: "V", 1600: "F", 1800: "/", 1990: "N"}
    train, held_out = load_wfdb(0, write_wfdb("a", beats=beats), ["II"], rate=RATE, seconds=1.0)
    # 30 and 1990 are too near the ends, 1480 lies across the moment, + is a rhythm
    assert train.names == tuple(BEAT_GROUPS) == ("N", "S", "V", "F", "Q")
    assert [train.names[label] for label in train.labels] == ["N", "V", "S"]
    assert [train.names[label] for label in held_out.labels] == ["F", "Q"]
    expected = courses(3, 2000)[650:750, 1]
    assert train.observation["ecg"][1, 0].numpy() == pytest.approx(expected, abs=1e-3)


def test_no_sample_is_on_both_sides(write_wfdb):
    beats = {number: "N" for number in range(60, 1950, 35)}
    train, held_out = load_wfdb(0, write_wfdb("a", beats=beats), ["I"], rate=RATE, seconds=1.0, held_out=0.4)
    # 0.01 mV per second is the time, once the wave's own is taken out by its whole periods
    last = train.observation["ecg"].mean(-1).max() / 0.01
    first = held_out.observation["ecg"].mean(-1).min() / 0.01
    assert last <= 12 - 0.5 + 0.02 and first >= 12 + 0.5 - 0.02


def test_records_are_brought_to_one_rate(write_wfdb):
    train, _ = load_wfdb(0, write_wfdb("a"), ["I"], rate=250, seconds=2.0)
    assert train.observation["ecg"].shape[2] == 500
    time = np.arange(500) / 250 + 4
    expected = np.sin(2 * np.pi * time) + 0.01 * time
    assert train.observation["ecg"][2, 0].numpy() == pytest.approx(expected, abs=5e-3)


def test_windows_with_samples_that_were_never_taken_are_left_out(wfdb, tmp_path):
    signal = courses(1, 2000)
    signal[310:320] = np.nan
    wfdb.wrsamp("a", RATE, ["mV"], ["I"], signal, fmt=["16"], write_dir=str(tmp_path))
    train, _ = load_wfdb(0, tmp_path, ["I"], rate=RATE, seconds=1.0)
    assert len(train) == 14 and train.observation["ecg"].isfinite().all()


def test_broken_wfdb_records_are_refused_by_name(write_wfdb, tmp_path):
    def load(**more):
        return load_wfdb(0, tmp_path, ["I"], rate=RATE, seconds=1.0, **more)

    with pytest.raises(ValueError, match=r"no header \(\*.hea\)"):
        load()
    write_wfdb("a", beats={500: "N", 1700: "N"})
    with pytest.raises(ValueError, match=r"b.hea: no such header"):
        load(records=["b"])
    with pytest.raises(ValueError, match=r"'V1' is no channel of .*a.hea .it has I, II, V5."):
        load_wfdb(0, tmp_path, ["V1"], rate=RATE)
    whole = (tmp_path / "a.dat").read_bytes()
    for cut in (0, 101, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.dat").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a.hea: its signals are missing or cut short"):
            load()
    (tmp_path / "a.dat").unlink()
    with pytest.raises(ValueError, match=r"a.hea: its signals are missing"):
        load()
    (tmp_path / "a.dat").write_bytes(whole)
    (tmp_path / "c.dat").write_bytes(whole)
    with pytest.raises(ValueError, match=r"c.dat: no header"):
        load()
    (tmp_path / "c.dat").unlink()
    write_wfdb("d")
    with pytest.raises(ValueError, match=r"d.hea has no annotations that are labels, and 1 others have"):
        load()
    (tmp_path / "a.atr").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a.atr: is empty"):
        load()
    (tmp_path / "a.hea").write_text("")
    with pytest.raises(ValueError, match=r"a.hea: is no whole WFDB header"):
        load(records=["a"])
    with pytest.raises(ValueError, match="no window of 3000 samples to be trained on"):
        load_wfdb(0, tmp_path, ["I"], rate=RATE, seconds=30.0, records=["d"])
    with pytest.raises(ValueError, match="expected a folder of recordings, got nowhere"):
        load_wfdb(0, "nowhere", ["I"])
    with pytest.raises(ValueError, match="held_out in"):
        load(held_out=1.0)


def test_real_records_of_physionet(wfdb):
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there: set WORLDJEPA_DATA to the folder with ecg/100.hea")
    train, held_out = load_wfdb(0, DATA, ["MLII", "V5"], rate=250, seconds=1.0, records=["100"])
    assert len(train) + len(held_out) in range(2265, 2273)  # of 2273 beats; two ends and the moment
    assert train.labels.bincount(minlength=5)[2:].tolist() == [0, 0, 0] and held_out.labels.bincount()[2] == 1
    middle = train.observation["ecg"][:, 0].mean(0)
    assert abs(int(middle.argmax()) - 125) <= 5, "the R peak lies in the middle"
    train, _ = load_wfdb(0, DATA, ["I", "II", "III"], rate=500, seconds=2.0, records=["s0010_re"])
    first, second, third = train.observation["ecg"].unbind(1)
    assert (third - (second - first)).abs().max() < 0.02, "Einthoven"


def edf(path: Path, signals: dict[str, np.ndarray], notes: list[tuple[float, float, str]] | None = None) -> None:
    """Writes an EDF+ file of whole seconds, 100 samples each, in uV; notes are (onset, duration, text)."""
    seconds = len(next(iter(signals.values()))) // RATE
    size = 60  # samples of annotations in a record
    per_record = [RATE] * len(signals) + [size] * (notes is not None)
    names = [*signals, "EDF Annotations"][: len(per_record)]
    low, high = [-1000] * len(signals) + [-32768], [1000] * len(signals) + [32767]

    def field(value, width: int) -> bytes:
        return str(value).ljust(width).encode()

    kind = "EDF+C" if notes is not None else ""
    count = len(per_record)
    header = field(0, 8) + field("X X X X", 80) + field("Startdate 01-JAN-2020 X X X", 80) + field("01.01.20", 8)
    header += field("00.00.00", 8) + field(256 * (1 + count), 8) + field(kind, 44)
    header += field(seconds, 8) + field(1, 8) + field(count, 4)
    units = ["uV"] * len(signals) + [""]
    for values, width in ((names, 16), ([""] * count, 80), (units, 8), (low, 8), (high, 8)):
        header += b"".join(field(values[i], width) for i in range(count))
    for value, width in ((-32768, 8), (32767, 8), ("", 80)):
        header += field(value, width) * count
    header += b"".join(field(number, 8) for number in per_record) + field("", 32) * count
    body = b""
    for second in range(seconds):
        for signal in signals.values():
            part = signal[second * RATE : (second + 1) * RATE]
            body += np.round((part + 1000) / 2000 * 65535 - 32768).astype("<i2").tobytes()
        if notes is not None:
            text = f"+{second}\x14\x14\x00"
            if second == 0:
                text += "".join(f"+{onset}\x15{duration}\x14{name}\x14\x00" for onset, duration, name in notes)
            body += text.encode().ljust(2 * size, b"\x00")
    path.write_bytes(header + body)


@pytest.fixture
def mne():
    return pytest.importorskip("mne", reason="the extra `signals` is not installed")


EEG = {"Cz": 100 * courses(3, 2000)[:, 0], "ECG": 100 * courses(3, 2000)[:, 1], "Fp1": 100 * courses(3, 2000)[:, 2]}


def test_an_edf_file_comes_back_in_windows_the_end_held_out(mne, tmp_path):
    edf(tmp_path / "a.edf", EEG)
    edf(tmp_path / "b.EDF", {name: -signal for name, signal in EEG.items()})
    train, held_out = load_edf(0, tmp_path, ["fp1", "Cz"], rate=RATE, seconds=1.5)
    assert train.observation["eeg"].shape == (20, 2, 150) and held_out.observation["eeg"].shape == (6, 2, 150)
    assert train.names == ("a", "b") and train.labels.bincount().tolist() == [10, 10]
    expected = np.stack([EEG["Fp1"], EEG["Cz"]])[:, 150:300]
    assert train.observation["eeg"][1].numpy() == pytest.approx(expected, abs=0.05)  # uV, steps of 0.03
    assert train.observation["eeg"][11].numpy() == pytest.approx(-expected, abs=0.05)


def test_annotations_of_an_edf_file_are_labels(mne, tmp_path):
    notes = [(0, 5, "rest"), (5.5, 4, "left"), (10, 0, "blink"), (14, 6, "left")]
    edf(tmp_path / "a.edf", EEG, notes)
    train, held_out = load_edf(0, tmp_path, ["Cz"], rate=RATE, seconds=2.0, held_out=0.3)
    assert train.names == ("blink", "left", "rest")
    assert [train.names[label] for label in train.labels] == ["rest", "rest", "left", "left", "blink"]
    assert [train.names[label] for label in held_out.labels] == ["left"] * 3
    assert train.observation["eeg"][2, 0].numpy() == pytest.approx(EEG["Cz"][550:750], abs=0.05)
    assert train.observation["eeg"][4, 0].numpy() == pytest.approx(EEG["Cz"][1000:1200], abs=0.05)
    train, _ = load_edf(0, tmp_path, ["Cz"], rate=RATE, seconds=2.0, held_out=0.3, labels=["rest", "left"])
    assert train.names == ("left", "rest") and len(train) == 4


def test_broken_edf_files_are_refused_by_name(mne, tmp_path):
    with pytest.raises(ValueError, match=r"expected EDF files, got no \*.edf"):
        load_edf(0, tmp_path, ["Cz"])
    edf(tmp_path / "a.edf", EEG)
    whole = (tmp_path / "a.edf").read_bytes()
    with pytest.raises(ValueError, match=r"'C3' is no channel of .*a.edf .it has Cz, ECG, Fp1."):
        load_edf(0, tmp_path, ["C3"])
    for cut in (0, 100, 300):
        (tmp_path / "a.edf").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=rf"a.edf: has no whole EDF header in its {cut} bytes"):
            load_edf(0, tmp_path, ["Cz"])
    (tmp_path / "a.edf").write_bytes(whole[:-500])
    with pytest.raises(
        ValueError, match=rf"a.edf: expected {len(whole)} bytes as its header says, got {len(whole) - 500}"
    ):
        load_edf(0, tmp_path, ["Cz"])
    (tmp_path / "a.edf").write_bytes(whole[:192] + b"EDF+D" + whole[197:])
    with pytest.raises(ValueError, match=r"a.edf: has gaps in time"):
        load_edf(0, tmp_path, ["Cz"])
    (tmp_path / "a.edf").write_bytes(whole)
    edf(tmp_path / "b.edf", EEG, [(0, 5, "rest")])
    with pytest.raises(ValueError, match=r"a.edf has no annotations that are labels, and 1 others have"):
        load_edf(0, tmp_path, ["Cz"])


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    (tmp_path / "a.hea").write_text("a 1 100 10\n")
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs wfdb: pip install 'worldjepa\[signals\]'"):
        load_wfdb(0, tmp_path, ["I"])
    (tmp_path / "a.edf").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "mne", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs mne: pip install 'worldjepa\[signals\]'"):
        load_edf(0, tmp_path, ["Cz"])
