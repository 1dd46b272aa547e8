import pytest
import torch

from worldjepa.tokenizers.table import TableTokenizer

NAN = float("nan")
COLUMNS = {"age": None, "job": ["cook", "nurse", "pilot"], "height": None, "smokes": ["false", "true"]}


def rows(*values) -> dict[str, torch.Tensor]:
    return {"table": torch.tensor(values)}


def test_every_column_has_places_of_its_own():
    tokens = TableTokenizer(COLUMNS, num_pinned=2)(rows([5.0, 2.0, 1.5, 0.0], [-1.0, 0.0, 0.25, 1.0]))
    assert tokens.values.shape == (2, 2 + 4, 2 + 3 + 2 + 2) and tokens.pinned.tolist() == [True] * 2 + [False] * 4
    assert tokens.coords[:, 0].tolist() == [-1, -1, 0, 1, 2, 3] and tokens.valid.all()
    assert (tokens.values[0, 2:] / 3).tolist() == [  # by the root of the 9 places
        [5.0, 1, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1.5, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 0],
    ]
    assert tokens.values[1, 3].argmax() == 2 and tokens.values[1, 5].argmax() == 8


def test_numbers_are_standardised_by_the_values_that_are_there():
    tokenizer = TableTokenizer(COLUMNS)
    tokenizer.fit(rows([1.0, 0, 10, 0], [NAN, 1, 30, 1], [5.0, NAN, 20, 1]))
    assert tokenizer.mean.tolist() == [3, 0, 20, 0] and tokenizer.std.tolist() == pytest.approx(
        [2, 1, 200**0.5 / 3**0.5, 1]
    )
    tokens = tokenizer(rows([7.0, 1, 20, 0]))
    assert tokens.values[0, 1, 0] == 6 and tokens.values[0, 3, 5] == 0 and tokens.values[0, 2].sum() == 3


def test_a_missing_value_is_no_token():
    tokenizer = TableTokenizer(COLUMNS)
    tokens = tokenizer(rows([NAN, 1, 2.0, NAN], [1.0, NAN, 2.0, 0]))
    assert tokens.valid.tolist() == [[True, False, True, True, False], [True, True, False, True, True]]
    assert torch.isfinite(tokens.values).all() and not tokens.values[~tokens.valid].any()


def test_a_token_depends_on_its_own_column_alone():
    tokenizer = TableTokenizer(COLUMNS)
    before = tokenizer(rows([1.0, 1, 2.0, 0])).values
    for column, value in enumerate((9.0, 2.0, 9.0, 1.0)):
        row = [1.0, 1.0, 2.0, 0.0]
        row[column] = value
        differs = (tokenizer(rows(row)).values != before).any(-1)[0]
        assert differs.nonzero()[:, 0].tolist() == [1 + column]


def test_statistics_are_kept_in_the_weights_and_sizes_in_the_configuration():
    tokenizer = TableTokenizer(COLUMNS)
    tokenizer.fit(rows([1.0, 0, 10, 0], [5.0, 1, 30, 1]))
    other = TableTokenizer(COLUMNS)
    other.load_state_dict(tokenizer.state_dict())
    row = rows([2.0, 2, 3.0, 1])
    assert torch.equal(other(row).values, tokenizer(row).values) and set(tokenizer.state_dict()) == {"mean", "std"}


def test_columns_that_say_nothing_are_named():
    tokenizer = TableTokenizer(COLUMNS)
    with pytest.raises(ValueError, match=r"one value alone .* 'job', 'height'"):
        tokenizer.fit(rows([1.0, 2, 3, 0], [2.0, NAN, 3, 1]))
    with pytest.raises(ValueError, match=r"no value at all .* 'age'"):
        tokenizer.fit(rows([NAN, 2, 3, 0], [NAN, 1, 4, 1]))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="2 columns or more"):
        TableTokenizer({"age": None})
    with pytest.raises(ValueError, match="'job' has 1 categories"):
        TableTokenizer({"age": None, "job": ["cook"]})
    tokenizer = TableTokenizer(COLUMNS)
    for code in (3.0, -1.0, 0.5):
        with pytest.raises(ValueError, match=rf"'job' must hold codes from 0 to 2, got {code:g}"):
            tokenizer(rows([1.0, 0, 2.0, 0], [1.0, code, 2.0, 0]))
    for table in (torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"table must be float32 \(B, 4\)"):
            tokenizer({"table": table})
