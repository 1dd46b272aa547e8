"""Static systems have the published masks, momenta and distances, or say in one place here that they do not.

The sizes of networks, batches and learning rates are not looked at: all of them are small here, and every
configuration's header says so.
"""

from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from worldjepa.config import RUN_SCHEMA, LoopSettings

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml") if "\ntokenizer:" in path.read_text())
VIEWS = ("lejepa", "sie", "vicreg")
"""Of the same family, but built as world models: they learn from views of things that an environment shows."""


def under(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in values.items()}


def ema(start: float, end: float) -> dict[str, Any]:
    return {"system.target._target_": "worldjepa.targets.Ema"} | under("system.target", {"start": start, "end": end})


def distance(name: str) -> dict[str, Any]:
    return {"system.distance.name": name}


LAYER_NORM, AS_IT_IS = {"system.normalize_target": True}, {"system.normalize_target": False}
I_JEPA_BLOCKS = {
    "num_targets": 4,
    "target_scale": [0.15, 0.2],
    "target_aspect": [0.75, 1.5],
    "context_scale": [0.85, 1.0],
    "min_keep": 10,
}
V_JEPA_BLOCKS = {"groups": [[8, 0.15], [2, 0.7]], "aspect": [0.75, 1.5]}
# Where a card names no momentum, the parent's is taken for it.
I_JEPA_EMA, V_JEPA_EMA = ema(0.996, 1.0), ema(0.998, 1.0)

PUBLISHED: dict[str, dict[str, Any]] = {
    "i_jepa": under("system.sampler", I_JEPA_BLOCKS) | I_JEPA_EMA | LAYER_NORM | distance("smooth_l1"),
    "v_jepa": under("system.sampler", V_JEPA_BLOCKS)
    | under("tokenizer", {"tubelet_size": 2, "patch_size": 16})
    | (V_JEPA_EMA | LAYER_NORM | distance("l1")),
    "t_jepa": under("system.sampler", {"num_targets": 4, "context_share": [0.14, 0.37], "target_share": [0.16, 0.62]})
    | {"tokenizer.num_pinned": 1}  # the REG token
    | (I_JEPA_EMA | AS_IT_IS | distance("mse")),
    "brain_jepa": under(
        "system.sampler",
        {
            "observed_share": [0.84, 1.0],
            "alpha_regions": [0.45, 0.6],
            "alpha_time": [0.2, 0.6],
            "beyond_regions": [0.15, 0.3],
            "beyond_time": [0.0, 0.4],
        },
    )
    | {"tokenizer.patch_size": 16, "data.gradients.num_gradients": 30}
    | (I_JEPA_EMA | LAYER_NORM | distance("smooth_l1")),
    "3d_jepa": under("system.sampler", {key: I_JEPA_BLOCKS[key] for key in I_JEPA_BLOCKS if key != "target_aspect"})
    | {"predictor._target_": "worldjepa.predictors.cross_attention.CrossAttentionPredictor"}
    | (I_JEPA_EMA | distance("cosine")),
    "point_jepa": under("system.sampler", {"num_targets": 4, "target_share": [0.15, 0.2], "context_share": [0.4, 0.75]})
    | {"data.num_points": 1024, "tokenizer.num_centres": 64, "tokenizer.num_neighbours": 32}
    | (ema(0.9995, 0.99999) | LAYER_NORM | distance("smooth_l1") | {"system.distance.beta": 2.0}),
    "s_jepa": {
        "system.sampler.diameter": {0.4, 0.6, 0.8},
        "encoder.embedding.layers": [[8, 32, 8], [16, 2, 2], [32, 2, 2], [64, 2, 2], [64, 2, 2]],
        "predictor.width": 64,
        "predictor.depth": 4,
    }
    | (I_JEPA_EMA | distance("l1")),
    "ecg_jepa": {"system.sampler.keep": [0.15, 0.25], "system.sampler.shortest": 10}
    | {"tokenizer.window": 25, "data.rate": 500, "data.source.seconds": 10}  # 200 tokens
    | (ema(0.998, 0.9995) | AS_IT_IS | distance("l1")),
    "eeg_vjepa": under("system.sampler", V_JEPA_BLOCKS)
    | {"tokenizer.patch_channels": 4, "tokenizer.patch_samples": 30}
    | (V_JEPA_EMA | distance("l1")),
    "a_jepa": under("system.sampler.easy", I_JEPA_BLOCKS)
    | under("system.sampler.hard", {"num_targets": 3, "target_scale": [0.05, 0.075]})
    | {"system.sampler.start": 0.01, "tokenizer.num_mels": 128, "tokenizer.patch": 16}
    | (I_JEPA_EMA | distance("l2")),
    "sar_jepa": under("system.sampler", {"num_windows": 4, "size": 7, "hidden_share": 0.8})
    | {"system.target.feature.kernels": [5, 9, 13, 17]}
    | (AS_IT_IS | distance("mse")),
    "ui_jepa": under("system.sampler.samplers.0", V_JEPA_BLOCKS)
    | {"system.sampler.samplers.1.share": 0.75}  # 6 of 8 times
    | (V_JEPA_EMA | distance("l1")),
    "ti_jepa": under("system.sampler.blocks", I_JEPA_BLOCKS)
    | {"predictor._target_": "worldjepa.predictors.cross_attention.CrossAttentionPredictor"}
    | I_JEPA_EMA,
    "dseq_jepa": under("system.sampler", {"num_regions": 4, "min_area": 0.15})
    | under("system.sampler.blocks", I_JEPA_BLOCKS)
    | (I_JEPA_EMA | LAYER_NORM | distance("smooth_l1")),
    "sparse_jepa": under("system.sampler", I_JEPA_BLOCKS) | I_JEPA_EMA | distance("mse"),
    "lejepa_crops": under("system.views", {"num_global": 2, "num_local": 6})
    | under("system.views", {"global_area": [0.3, 1.0], "local_area": [0.05, 0.3]})
    | under("system.sigreg", {"num_knots": 17, "max_t": 3.0})
    | {"system.weight": 0.02},
    "lejepa": under("objective.terms.sigreg", {"num_knots": 17, "max_t": 3.0})
    | {"target._target_": "worldjepa.targets.Live", "objective.weights.sigreg": 0.02, "train.clip_frames": 8},
    "sie": under("objective.terms.vicreg", {"variance": 10.0, "covariance": 1.0})
    | {"target._target_": "worldjepa.targets.Live", "objective.weights.one_step": 10.0, "train.clip_frames": 2},
    "vicreg": under("objective.terms.vicreg", {"variance": 25.0, "covariance": 1.0})
    | {"objective.weights.one_step": 25.0, "objective.weights.vicreg": 1.0, "train.clip_frames": 2},
}

SIXTEEN = "small pictures have 16 tokens, of which hardly ever 10 are left"
SHORT_RUN = "a run of hundreds of steps needs a quicker start"
DEVIATIONS: dict[tuple[str, str], tuple[Any, str]] = {
    ("i_jepa", "system.sampler.min_keep"): (4, SIXTEEN),
    ("dseq_jepa", "system.sampler.blocks.min_keep"): (4, SIXTEEN),
    ("sparse_jepa", "system.sampler.min_keep"): (4, SIXTEEN),
    ("v_jepa", "tokenizer.patch_size"): (8, "frames are of 32 pixels, not 224"),
    ("3d_jepa", "system.sampler.min_keep"): (4, "clouds have 32 tokens"),
    ("3d_jepa", "system.target.start"): (0.98, SHORT_RUN),
    ("3d_jepa", "system.target.end"): (0.9996, "none is known to us; as Point-JEPA's here"),
    ("point_jepa", "data.num_points"): (256, "sized for two cores"),
    ("point_jepa", "tokenizer.num_centres"): (32, "clouds have a quarter of the points"),
    ("point_jepa", "tokenizer.num_neighbours"): (16, "clouds have a quarter of the points"),
    ("point_jepa", "system.target.start"): (0.98, SHORT_RUN),
    ("point_jepa", "system.target.end"): (0.9996, SHORT_RUN),
    ("ecg_jepa", "data.rate"): (250, "sized for two cores: 100 tokens in place of 200"),
    ("a_jepa", "tokenizer.num_mels"): (64, "words of half a second have few windows"),
    ("a_jepa", "tokenizer.patch"): (8, "words of half a second have few windows"),
    ("a_jepa", "system.sampler.easy.min_keep"): (2, "the shortest word has 24 tokens"),
    ("ti_jepa", "system.sampler.blocks.num_targets"): (1, "one large target, so that the caption counts"),
    ("ti_jepa", "system.sampler.blocks.target_scale"): ([0.7, 0.9], "one large target, so that the caption counts"),
    ("ti_jepa", "system.sampler.blocks.context_scale"): ([1.0, 1.0], "what the target leaves is little enough"),
    ("ti_jepa", "system.sampler.blocks.min_keep"): (2, "of 16 tokens the target leaves about 4"),
    ("ti_jepa", "system.target.start"): (0.98, SHORT_RUN),
    ("lejepa_crops", "system.views.global_area"): ([0.7, 1.0], "8 x 8 pixels"),
    ("lejepa_crops", "system.views.local_area"): ([0.4, 0.7], "a twentieth of 8 x 8 pixels are three of them"),
    ("lejepa_crops", "system.weight"): (0.1, "SIGReg grows with the batch, which is small"),
    ("lejepa", "objective.weights.sigreg"): (
        0.05,
        "within the published range, .02 to .05",
    ),
    ("lejepa", "train.clip_frames"): (2, "an environment shows pairs"),
    ("brain_jepa", "data.gradients.num_gradients"): (12, "published of 450 regions; here are 24"),
    ("sie", "objective.weights.one_step"): (25.0, "VICReg's own weights, which the baselines share"),
    ("sie", "objective.terms.vicreg.variance"): (25.0, "VICReg's own weights, which the baselines share"),
}


@cache
def config_of(name: str) -> DictConfig:
    """The model's configuration with its default data, or with its default environment."""
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("pretrain_views" if name in VIEWS else "pretrain", [f"model={name}"])


def setting(name: str, key: str) -> Any:
    """What a configuration says, with lists for sequences, or else the default of what it builds there.

    Raises:
        KeyError: there is no such setting.
    """
    *parents, last = key.split(".")
    node = config_of(name)
    for parent in parents:
        node = node[int(parent) if isinstance(node, ListConfig) else parent]
    value = node[last] if last in node else signature(get_object(node._target_)).parameters[last].default
    return OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=True)["value"]


def agree(found: Any, published: Any) -> bool:
    """A set stands for a choice, of which any one was published."""
    return found in published if isinstance(published, set) else found == published


def test_every_static_system_is_in_the_table():
    assert set(PUBLISHED) == {*NAMES, *VIEWS}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_system_has_its_published_numbers_or_a_declared_deviation(name):
    wanted = {key: DEVIATIONS.get((name, key), (value,))[0] for key, value in PUBLISHED[name].items()}
    found = {key: setting(name, key) for key in wanted}
    assert {key: value for key, value in found.items() if not agree(value, wanted[key])} == {}


def test_declared_deviations_are_of_published_numbers_and_differ_from_them():
    for (name, key), (ours, why) in DEVIATIONS.items():
        assert key in PUBLISHED[name], f"{name} {key}: deviates from nothing that is published"
        assert not agree(ours, PUBLISHED[name][key]), f"{name} {key}: {ours} is what is published"
        assert why


def test_a_number_that_is_left_out_is_read_as_its_default_and_one_that_is_not_there_is_refused():
    assert "normalize_target" not in config_of("i_jepa").system and setting("i_jepa", "system.normalize_target") is True
    assert setting("ui_jepa", "system.sampler.samplers.1.contiguous") is False
    with pytest.raises(KeyError):
        setting("i_jepa", "system.sampler.minimum_keep")
