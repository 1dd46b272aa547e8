"""Tables: scikit-learn's small ones, and the user's own CSV and Parquet files.

A table's columns are a mapping of their names to the categories that codes stand for, or to None for numbers. A run's
configuration keeps it, so that the run's weights can be read without the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.samples import Samples, split_samples

if TYPE_CHECKING:
    import pyarrow

Columns = Mapping[str, Sequence[str] | None]

SKLEARN = ("breast_cancer", "diabetes", "wine")
MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL")  # in a CSV file, and in strings anywhere
MOST_CATEGORIES = 255  # as many as scikit-learn's trees take
MOST_CLASSES = 20  # whole numbers with more values than this are a quantity


def sklearn_columns(name: str) -> dict[str, None]:
    """Of a table that comes with scikit-learn: numbers all.

    Raises:
        ValueError: an unknown name.
    """
    return dict.fromkeys(str(column) for column in _sklearn(name).feature_names)


def load_sklearn_table(seed: int, name: str, held_out: float = 0.25) -> tuple[Samples, Samples]:
    """A table that comes with scikit-learn, no download.

    Args:
        seed: of the split.
        name: ``breast_cancer`` (569 rows, 30 columns, 2 classes), ``wine`` (178, 13, 3 classes) or ``diabetes`` (442,
            10, the disease's progression within a year).
        held_out: share of the second part.

    Returns:
        training and held-out rows, table float32 (N,columns).

    Raises:
        ValueError: an unknown name.
    """
    found = _sklearn(name)
    names = tuple(str(target) for target in found.get("target_names", ()))
    labels = torch.from_numpy(found.target.astype(np.int64 if names else np.float32))
    table = torch.from_numpy(found.data.astype(np.float32))
    return split_samples(Samples({"table": table}, labels, names), seed, held_out)


def table_columns(path: str | Path, label: str, ignore: Sequence[str] = ()) -> dict[str, list[str] | None]:
    """The columns of a CSV or Parquet file to learn from, in the file's order, and the categories of those of strings.

    Args:
        path: ``.csv`` (separated by commas, semicolons or tabs; the first line names the columns) or ``.parquet``.
        label: column that is no input.
        ignore: further ones.

    Raises:
        ValueError: no such file or columns, fewer than two columns, one without values, one of something else than
            numbers, strings or true and false, one with one category or with more than 255.
    """
    table = _read(path)
    _check_names(path, table, [label, *ignore])
    names = [name for name in table.column_names if name != label and name not in ignore]
    if len(names) < 2:
        raise ValueError(f"{path}: 2 columns or more are needed beside the label {label!r}, found {names}")
    return {name: _categories(path, name, table.column(name)) for name in names}


def load_table(
    seed: int, path: str | Path, label: str, columns: Columns | None = None, held_out: float = 0.25
) -> tuple[Samples, Samples]:
    """The user's own CSV or Parquet file, one sample per row.

    Args:
        seed: of the split.
        path, label: see :func:`table_columns`. Labels are classes where they are strings, true and false or at most 20
            whole numbers, and a quantity otherwise.
        columns: as from :func:`table_columns`, which is asked where this is None; another file is read as a run's own
            was by the run's.
        held_out: share of the second part.

    Returns:
        training and held-out rows, table float32 (N,columns), numbers or codes of categories, NaN where missing.

    Raises:
        ValueError: see :func:`table_columns`; a category that ``columns`` has not, numbers that are infinite, a row
            with fewer than two values, or a label that is missing, always the same, or the only one of its class.
    """
    columns = table_columns(path, label) if columns is None else columns
    table = _read(path)
    _check_names(path, table, [label, *columns])
    parts = [_values(path, name, table.column(name), categories) for name, categories in columns.items()]
    rows = np.stack(parts, 1).astype(np.float32)
    short = np.flatnonzero(np.isfinite(rows).sum(1) < 2)
    if len(short):
        raise ValueError(
            f"{path}: {len(short)} rows have fewer than 2 values, the first is row {short[0] + 1} below the names; "
            "leave such rows out"
        )
    labels, names = read_labels(table.column(label), f"{path}: label {label!r}")
    return split_samples(Samples({"table": torch.from_numpy(rows)}, labels, names), seed, held_out)


def read_column(path: str | Path, name: str) -> pyarrow.ChunkedArray:
    """A column of a CSV or Parquet file.

    Raises:
        ValueError: no such file or column.
    """
    table = _read(path)
    _check_names(path, table, [name])
    return table.column(name)


def read_labels(column: pyarrow.ChunkedArray, what: str) -> tuple[Tensor, tuple[str, ...]]:
    """Classes of strings, of true and false or of at most 20 whole numbers; a quantity of any other numbers.

    Args:
        what: begins the message of an error.

    Returns:
        labels, int64 (N,) from 0 or float32 (N,), and the classes' names in their order, which is the values'.

    Raises:
        ValueError: labels of another type, missing ones, only one value, or a class with one member.
    """
    import pyarrow as pa

    column = _plain(column)
    values = column.to_numpy() if _is_number(column.type) else np.array(column.to_pylist(), dtype=object)
    missing = column.is_null(nan_is_null=True).to_numpy()
    if missing.any():
        raise ValueError(
            f"{what} is missing in {missing.sum()} rows, the first is row {missing.argmax() + 1}; leave such rows out"
        )
    if not (_is_number(column.type) or pa.types.is_string(column.type)):
        raise ValueError(f"{what} holds {column.type}, expected numbers, strings or true and false")
    found, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(found) < 2:
        raise ValueError(f"{what} is always {found[0]}: there is nothing to read off; name another column")
    if _is_number(column.type) and not (pa.types.is_integer(column.type) and len(found) <= MOST_CLASSES):
        if not np.isfinite(found).all():
            raise ValueError(f"{what} must be finite, got {found[~np.isfinite(found)][0]}; leave such rows out")
        return torch.from_numpy(values.astype(np.float32)), ()
    if counts.min() < 2:
        raise ValueError(
            f"{what}: class {str(found[counts.argmin()])!r} has one row, and a split needs 2; leave it out, or name "
            "another column"
        )
    return torch.from_numpy(index.reshape(-1).astype(np.int64)), tuple(str(value) for value in found)


def _sklearn(name: str):
    import sklearn.datasets

    if name not in SKLEARN:
        raise ValueError(f"name must be one of {', '.join(SKLEARN)}, got {name!r}")
    # Diabetes comes scaled to no unit unless asked; tokenizers scale it from the training rows alone.
    return getattr(sklearn.datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))


def _read(path: str | Path) -> pyarrow.Table:
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a .csv or .parquet file, found none")
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: expected a .csv or .parquet file, got {path.suffix or 'no suffix'}")
    try:
        if path.suffix == ".parquet":
            table = parquet.read_table(path)
        else:
            with open(path, encoding="utf-8-sig") as file:
                names = file.readline()
            # Types are inferred from the first block: all of the file, so that a word in its last row makes no error.
            whole = csv.ReadOptions(block_size=min(max(path.stat().st_size, 1), 2**31 - 1))
            separated = csv.ParseOptions(delimiter=max(",;\t", key=names.count))
            missing = csv.ConvertOptions(null_values=list(MISSING), strings_can_be_null=True)
            table = csv.read_csv(path, whole, separated, missing)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as {path.suffix} ({error}); write the file again") from None
    if not table.num_rows:
        raise ValueError(f"{path}: holds no rows")
    return table


def _check_names(path: str | Path, table: pyarrow.Table, names: Sequence[str]) -> None:
    there = table.column_names
    for name in names:
        if there.count(name) != 1:
            raise ValueError(
                f"{path}: expected one column {name!r}, found {there.count(name)}; the columns are {', '.join(there)}"
            )
    twice = sorted({name for name in there if there.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: column {twice[0]!r} is there more than once; give every column a name of its own")


def _plain(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Without dictionaries; decimals as floats, true and false as strings, strings stripped and empty ones missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    if pa.types.is_boolean(column.type) or pa.types.is_large_string(column.type):
        column = pc.cast(column, pa.string())
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.is_in(column, pa.array(MISSING)), pa.scalar(None, pa.string()), column)
    return column


def _is_number(kind: pyarrow.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _categories(path: str | Path, name: str, column: pyarrow.ChunkedArray) -> list[str] | None:
    import pyarrow as pa

    column, without = _plain(column), f"leave it out: data.ignore=[{name}]"
    if column.is_null(nan_is_null=True).to_numpy().all():
        raise ValueError(f"{path}: column {name!r} has no value at all; {without}")
    if _is_number(column.type):
        return None
    if not pa.types.is_string(column.type):
        raise ValueError(
            f"{path}: column {name!r} holds {column.type}, expected numbers, strings or true and false; convert it, or "
            f"{without}"
        )
    found = sorted(column.drop_null().unique().to_pylist())
    if not 2 <= len(found) <= MOST_CATEGORIES:
        raise ValueError(
            f"{path}: column {name!r} has {len(found)} different strings, expected 2 to {MOST_CATEGORIES}; {without}"
        )
    return found


def _values(path: str | Path, name: str, column: pyarrow.ChunkedArray, categories: Sequence[str] | None) -> np.ndarray:
    """float64 (N,), NaN where missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _plain(column)
    missing = column.is_null(nan_is_null=True).to_numpy()
    if missing.all():
        return np.full(len(missing), np.nan)  # of another file than the columns' own, maybe of one row
    if _is_number(column.type) != (categories is None):
        kind = "numbers" if categories is None else "categories"
        raise ValueError(f"{path}: column {name!r} holds {column.type}, expected {kind}")
    if categories is None:
        values = pc.cast(column, pa.float64(), safe=False).to_numpy().astype(np.float64)
        if np.isinf(values.astype(np.float32)).any():
            raise ValueError(f"{path}: column {name!r} holds infinite or huge numbers; leave such cells empty")
        return values
    codes = pc.index_in(column, pa.array(list(categories), pa.string())).to_numpy().astype(np.float64)
    unknown = np.isnan(codes) & ~missing
    if unknown.any():
        raise ValueError(
            f"{path}: column {name!r} holds {column[int(unknown.argmax())].as_py()!r}, which is none of its "
            f"{len(categories)} categories ({', '.join(list(categories)[:4])}, ...); leave such cells empty"
        )
    return codes
