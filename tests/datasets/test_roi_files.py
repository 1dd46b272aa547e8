from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from worldjepa.config import LoopSettings
from worldjepa.datasets.brain_rois import gradient_table, random_rois
from worldjepa.datasets.roi_files import count_regions, folder_connectivity, load_roi_folder, read_courses
from worldjepa.pretraining import build_samples_system, open_samples

CONFIGS = Path(__file__).parents[2] / "configs"
N, R, T = 12, 40, 35


@pytest.fixture
def folder(tmp_path) -> Path:
    """Every third subject's file is a CSV without names of columns, every third one with them."""
    rois = random_rois(N, 0, R, T)[0]["rois"].numpy()
    rows = ["subject,group,age"]
    for number, courses in enumerate(rois):
        name = f"sub-{number:02}"
        rows.append(f"{name},{'patient' if number % 2 else 'control'},{40 + number / 2}")
        if number % 3 == 0:
            np.save(tmp_path / f"{name}.npy", courses.T)
        else:
            names = {"header": ",".join(f"roi{r}" for r in range(R)), "comments": ""} if number % 3 == 2 else {}
            np.savetxt(tmp_path / f"{name}.csv", courses.T, delimiter=",", **names)
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def load(folder: Path, label: str = "group", num_samples: int = 32, **more):
    return load_roi_folder(0, folder, folder / "labels.csv", label, num_samples, **more)


def test_subjects_are_read_from_either_kind_of_file(folder):
    train, held_out = load(folder)
    rois, labels = (
        torch.cat([train.observation["rois"], held_out.observation["rois"]]),
        torch.cat([train.labels, held_out.labels]),
    )
    assert rois.shape == (N, R, 32) and rois.dtype == torch.float32 and train.names == ("control", "patient")
    truth = random_rois(N, 0, R, T)[0]["rois"][..., :32]
    apart = torch.cdist(rois.flatten(1), truth.flatten(1))
    assert apart.amin(1).max() < 1e-3
    assert (apart.argmin(1) % 2 == labels).all() and sorted(apart.argmin(1).tolist()) == list(range(N))
    assert load(folder, "age")[0].labels.dtype == torch.float32 and count_regions(folder, folder / "labels.csv") == R


def test_rows_may_be_regions(folder):
    courses = read_courses(folder / "sub-00.npy")
    np.save(folder / "sub-00.npy", courses)
    assert (read_courses(folder / "sub-00.npy", volumes_first=False) == courses).all()
    with pytest.raises(ValueError, match=r"sub-01.csv: has 40 regions, the files before it 35"):
        load(folder)


def test_missing_regions_are_kept_as_nan_and_left_out_of_the_connectivity(folder):
    whole = folder_connectivity(folder, folder / "labels.csv")
    assert whole.shape == (R, R) and np.allclose(whole, whole.T) and np.allclose(whole.diagonal(), 1)
    courses = read_courses(folder / "sub-00.npy").T
    courses[:, 5] = np.nan
    np.save(folder / "sub-00.npy", courses)
    assert torch.cat([part.observation["rois"] for part in load(folder)]).isnan().any(2).sum() == 1
    some = folder_connectivity(folder, folder / "labels.csv")
    others = np.delete(np.arange(R), 5)
    assert np.isfinite(some).all() and np.allclose(some[np.ix_(others, others)], whole[np.ix_(others, others)])
    without = np.mean([np.corrcoef(read_courses(next(folder.glob(f"sub-{n:02}.*")))) for n in range(1, N)], 0)
    assert np.allclose(some[5], without[5], atol=1e-5)


def test_an_atlas_connectivity_takes_the_folders_place(folder):
    matrix = np.corrcoef(np.random.default_rng(0).standard_normal((R, 60)))
    np.savetxt(folder / "atlas.csv", matrix, delimiter=",")
    found = folder_connectivity(folder, folder / "labels.csv", matrix=folder / "atlas.csv")
    assert np.allclose(found, matrix)
    np.savetxt(folder / "atlas.csv", matrix[:, 1:], delimiter=",")
    with pytest.raises(ValueError, match=r"atlas.csv: expected a finite square matrix"):
        folder_connectivity(folder, folder / "labels.csv", matrix=folder / "atlas.csv")


def test_files_that_cannot_be_read_are_named(folder):
    with pytest.raises(ValueError, match=r"sub-00.npy: has 35 volumes, expected num_samples \(36\)"):
        load(folder, num_samples=36)
    (folder / "sub-01.csv").write_text("1,2,3\n4,five,6\n")
    with pytest.raises(ValueError, match=r"sub-01.csv: cannot be read as a table of numbers"):
        load(folder)
    (folder / "sub-01.csv").write_text("1,2,3\n4,inf,6\n")
    with pytest.raises(ValueError, match=r"sub-01.csv: holds infinite"):
        load(folder)
    (folder / "sub-01.csv").write_text("nan,nan,nan\nnan,nan,nan\n")
    with pytest.raises(ValueError, match=r"sub-01.csv: every region is missing; leave the subject out"):
        load(folder)
    (folder / "sub-01.csv").write_text("")
    with pytest.raises(ValueError, match=r"sub-01.csv"):
        load(folder)
    np.save(folder / "sub-00.npy", np.zeros(7))
    with pytest.raises(ValueError, match=r"sub-00.npy: expected a table of volumes and regions, got float64 \(7,\)"):
        load(folder)
    (folder / "sub-00.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"sub-00.npy: cannot be read"):
        load(folder)


def test_lists_that_do_not_fit_are_named(folder):
    with pytest.raises(ValueError, match=r"labels.csv: expected one column 'sex', found 0"):
        load(folder, "sex")
    with pytest.raises(ValueError, match=r"none.csv: expected a .csv or .parquet file, found none"):
        load_roi_folder(0, folder, folder / "none.csv", "group", 32)
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text + "\nsub-99,control,1.5")
    with pytest.raises(ValueError, match=r"sub-99: expected one of sub-99.npy and sub-99.csv, found 0"):
        load(folder)
    (folder / "labels.csv").write_text(text + "\nsub-03,control,1.5")
    with pytest.raises(ValueError, match=r"subject 'sub-03' is there more than once"):
        load(folder)


def test_a_run_on_a_folder_finds_its_regions_and_their_gradients(folder):
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    words = ["data=roi_folder", f"data.folder={folder}", "data.label=group", "data.num_samples=32"]
    words += ["data.gradients.kept=0.3"]  # with few regions, few connections of each let them fall apart
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("pretrain", ["model=brain_jepa", *words])
    samples, _ = open_samples(config)
    model = build_samples_system(config, samples).model
    wanted = gradient_table(folder_connectivity(folder, folder / "labels.csv"), kept=0.3)
    assert torch.equal(model.encoder.coordinates.table, wanted) and wanted.shape == (R, 30)
    assert model.features(samples.observation).shape == (len(samples), 64)
