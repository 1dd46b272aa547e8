from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from worldjepa.checkpoint import load_weights, make_token_model
from worldjepa.config import LoopSettings
from worldjepa.datasets.tables import load_sklearn_table, load_table, sklearn_columns, table_columns
from worldjepa.pretraining import build_samples_system, open_samples

CONFIGS = Path(__file__).parents[2] / "configs"

CSV = """age;job;member;wage;kind
31; nurse;true;1.5;b
?;cook;false;2.5;a
44;NA;true;;b
52;cook;;4.0;a
29;pilot;false;5.5;c
60;nurse;true;6.0;c
"""
COLUMNS = {"age": None, "job": ["cook", "nurse", "pilot"], "member": ["false", "true"], "wage": None}
ROWS = [
    [31, 1, 1, 1.5],
    [-9, 0, 0, 2.5],
    [44, -9, 1, -9],
    [52, 0, -9, 4],
    [29, 2, 0, 5.5],
    [60, 1, 1, 6],
]  # -9: missing


def csv(folder: Path, text: str = CSV, name: str = "people.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def all_rows(parts) -> tuple[np.ndarray, np.ndarray]:
    """Of both parts, in an order that does not depend on the split."""
    table = torch.cat([part.observation["table"] for part in parts]).nan_to_num(-9).numpy()
    order = np.lexsort(table.T)
    return table[order], torch.cat([part.labels for part in parts]).numpy()[order]


def test_a_csv_file_is_read_without_naming_its_columns(tmp_path):
    path = csv(tmp_path)
    assert table_columns(path, "kind") == COLUMNS
    parts = load_table(0, path, "kind", held_out=0.5)
    assert parts[0].names == ("a", "b", "c") and sorted(torch.cat([p.labels for p in parts]).tolist()) == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
    assert parts[0].observation["table"].dtype == torch.float32
    table, labels = all_rows(parts)
    rows = np.array(ROWS, np.float32)
    order = np.lexsort(rows.T)
    assert (table == rows[order]).all() and (labels == np.array([1, 0, 1, 0, 2, 2])[order]).all()


def test_a_parquet_file_is_read_like_a_csv_file(tmp_path):
    job = pa.array(["nurse", "cook", None, "cook", "pilot", "nurse"]).dictionary_encode()
    member = pa.array([True, False, True, None, False, True])
    wage = pa.array([1.5, 2.5, float("nan"), 4.0, 5.5, 6.0])
    table = pa.table(
        {
            "age": pa.array([31, None, 44, 52, 29, 60]),
            "job": job,
            "member": member,
            "wage": wage,
            "kind": list("babacc"),
        }
    )
    parquet.write_table(table, tmp_path / "people.parquet")
    assert table_columns(tmp_path / "people.parquet", "kind") == COLUMNS
    ours = load_table(1, tmp_path / "people.parquet", "kind", held_out=0.5)
    assert all(
        (a == b).all()
        for a, b in zip(all_rows(ours), all_rows(load_table(1, csv(tmp_path), "kind", None, 0.5)), strict=True)
    )


def test_labels_are_classes_or_a_quantity(tmp_path):
    def labels(*values):
        text = "x,y,z\n" + "\n".join(f"{i},{-i},{value}" for i, value in enumerate(values))
        parts = load_table(0, csv(tmp_path, text), "z", held_out=0.5)
        return sorted(torch.cat([part.labels for part in parts]).tolist()), parts[0].names, parts[0].labels.dtype

    assert labels(7, 3, 7, 3) == ([0, 0, 1, 1], ("3", "7"), torch.int64)
    assert labels("yes", "no", "no", "yes")[1] == ("no", "yes") and labels("true", "false", "true", "false")[1] == (
        "false",
        "true",
    )
    assert labels(0.5, 2, 1, 1.5) == ([0.5, 1.0, 1.5, 2.0], (), torch.float32)
    assert labels(*range(21))[2] == torch.float32  # too many for classes


def test_another_file_is_read_by_the_columns_of_the_first(tmp_path):
    other = csv(tmp_path, "wage,kind,job,member,age\n1,a,pilot,true,3\n2,b,pilot,true,\n3,a,cook,,5\n4,b,pilot,,6\n")
    table, _ = all_rows(load_table(0, other, "kind", COLUMNS, 0.5))
    assert sorted(table.tolist()) == [[-9, 2, 1, 2], [3, 2, 1, 1], [5, 0, -9, 3], [6, 2, -9, 4]]
    strange = csv(tmp_path, CSV.replace("pilot", "clown"))
    with pytest.raises(ValueError, match=r"people.csv: column 'job' holds 'clown', which is none of its 3 categories"):
        load_table(0, strange, "kind", COLUMNS)
    words = csv(tmp_path, CSV.replace("31", "old"))
    with pytest.raises(ValueError, match="column 'age' holds string, expected numbers"):
        load_table(0, words, "kind", COLUMNS)


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("", "z", "cannot be read as .csv"),
        ("x,y,z\n", "z", "holds no rows"),
        ("x,y,z\n1,2\n", "z", "cannot be read as .csv"),
        ("x,y,z\n1,2,a\n2,3,b\n", "w", r"expected one column 'w', found 0; the columns are x, y, z"),
        ("x,x,z\n1,2,a\n2,3,b\n", "z", "column 'x' is there more than once"),
        ("x,z\n1,a\n2,b\n", "z", r"2 columns or more are needed beside the label 'z', found \['x'\]"),
        ("x,y,z\n1,,a\n2,NaN,b\n", "z", r"column 'y' has no value at all; leave it out: data.ignore=\[y\]"),
        ("x,y,z\n1,u,a\n2,u,b\n", "z", "column 'y' has 1 different strings"),
        ("x,y,z\n1,2020-01-01,a\n2,2021-01-01,b\n", "z", "column 'y' holds date32"),
        ("x,y,z\n1,inf,a\n2,3,b\n", "z", "column 'y' holds infinite"),
        ("x,y,v,z\n1,2,1,a\n2,,,b\n", "z", "1 rows have fewer than 2 values, the first is row 2"),
        ("x,y,z\n1,2,a\n2,3,\n3,4,a\n", "z", "label 'z' is missing in 1 rows, the first is row 2"),
        ("x,y,z\n1,2,a\n2,3,a\n", "z", "label 'z' is always a"),
        ("x,y,z\n1,2,a\n2,3,b\n3,4,a\n", "z", "label 'z': class 'b' has one row"),
        ("x,y,z\n1,2,0.5\n2,3,inf\n3,4,1\n", "z", "label 'z' must be finite"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, text, label, message):
    with pytest.raises(ValueError, match=rf"people.csv.*{message}"):
        load_table(0, csv(tmp_path, text), label)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.csv: expected a .csv or .parquet file, found none"):
        table_columns(tmp_path / "none.csv", "z")
    with pytest.raises(ValueError, match=r"people.xls: expected a .csv or .parquet file, got .xls"):
        table_columns(csv(tmp_path, name="people.xls"), "z")
    with pytest.raises(ValueError, match=r"people.parquet: cannot be read as .parquet"):
        table_columns(csv(tmp_path, name="people.parquet"), "z")
    ids = "x,id,z\n" + "\n".join(f"{i},n{i},{i % 2}" for i in range(300))
    with pytest.raises(
        ValueError, match=r"column 'id' has 300 different strings, expected 2 to 255; leave it out: data.ignore"
    ):
        table_columns(csv(tmp_path, ids), "z")
    with pytest.raises(ValueError, match="one column 'ids'"):
        table_columns(csv(tmp_path, ids), "z", ["ids"])


def test_the_tables_of_scikit_learn():
    for name, rows, columns, classes in (("breast_cancer", 569, 30, 2), ("wine", 178, 13, 3), ("diabetes", 442, 10, 0)):
        train, held_out = load_sklearn_table(2, name)
        assert len(train) + len(held_out) == rows and len(train.names) == classes
        assert train.observation["table"].shape[1] == columns == len(sklearn_columns(name))
        assert train.labels.dtype == (torch.int64 if classes else torch.float32)
    with pytest.raises(ValueError, match="name must be one of breast_cancer"):
        load_sklearn_table(0, "titanic")


def resolved(*words: str):
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("pretrain", ["model=t_jepa", *words])


def test_a_run_on_a_users_file_counts_nothing_by_hand_and_is_read_back_without_it(tmp_path):
    path = csv(tmp_path, CSV.replace("kind", "the kind"))
    config = resolved(
        "data=table", f"data.path={path}", "data.label='the kind'", "data.ignore=[wage]", "data.source.held_out=0.5"
    )
    samples, _ = open_samples(config)
    model = build_samples_system(config, samples).model
    kept = OmegaConf.create(OmegaConf.to_yaml(config, resolve=True))  # as a run's folder has it
    path.unlink()
    assert OmegaConf.to_container(kept.data.columns) == {name: COLUMNS[name] for name in ("age", "job", "member")}
    again = make_token_model(OmegaConf.to_container(kept))
    load_weights(again, model.state_dict(), tmp_path)
    assert torch.equal(again.eval().features(samples.observation), model.eval().features(samples.observation))


def test_what_is_wrong_with_a_users_file_is_said_when_a_run_is_opened(tmp_path):
    with pytest.raises(ValueError, match=r"data.path"):
        OmegaConf.to_container(resolved("data=table"), resolve=True)
    with pytest.raises(ValueError, match=r"people.csv: expected one column 'sort'"):
        OmegaConf.to_container(resolved("data=table", f"data.path={csv(tmp_path)}", "data.label=sort"), resolve=True)
