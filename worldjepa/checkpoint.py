"""Weights and training state on disk: safetensors and resolved YAML, written beside and renamed, never pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from worldjepa.files import written_whole

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
STATE_FILE = "checkpoint.safetensors"
NORM_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Buffers of BatchNorm."""


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes tensors and JSON-able metadata into one safetensors file, atomically."""
    # Tied weights share memory, which safetensors refuses: every entry gets memory of its own.
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with written_whole(path) as beside:
        save_file(contiguous, beside, metadata={"json": json.dumps(metadata)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :func:`save_tensors` wrote.

    Raises:
        ValueError: the file is missing, or is no whole safetensors file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a safetensors file, found none; has the run saved anything yet?")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = json.loads((file.metadata() or {}).get("json", "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise ValueError(
            f"{path}: expected a safetensors file, got something else or a truncated one ({error}); "
            "delete it and repeat the training command, or convert the checkpoint to safetensors"
        ) from None
    return tensors, metadata


def load_weights(module: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Loads weights into ``module``; a weight that is missing, extra or of another shape is an error naming it."""
    expected = module.state_dict()
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    shapes = [
        f"{name}: expected {tuple(expected[name].shape)}, got {tuple(tensors[name].shape)}"
        for name in sorted(set(expected) & set(tensors))
        if expected[name].shape != tensors[name].shape
    ]
    if missing or extra or shapes:
        raise ValueError(
            f"{source}: the weights do not fit the configuration beside them; missing {missing[:3]}, "
            f"unexpected {extra[:3]}, shapes {shapes[:3]}; load them with the {CONFIG_FILE} they were trained with"
        )
    module.load_state_dict(tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's per-parameter state as flat named tensors ``<index>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores what :func:`optimizer_tensors` gave; parameter groups keep the hyper-parameters they were built with."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def start_from(encoder: nn.Module) -> None:
    """Gives a new encoder the weights of the run it names as ``init``, if it names one.

    A part that both have, such as the pyramid, must be the same in both. What the other run lacks, such as a head,
    stays as it is, and so do statistics of the data, which are no weights; BatchNorm's are its layers' and come along.
    A part whose ``init_prefix`` is empty takes all that has its names, statistics too.

    Raises:
        ValueError: no such run, no part in common, or one that differs.
    """
    named = [part for part in encoder.modules() if getattr(part, "init", None) is not None]
    for part in named:
        path, prefix = Path(part.init) / MODEL_FILE, getattr(part, "init_prefix", "encoder.")
        found = {name.removeprefix(prefix): x for name, x in load_tensors(path)[0].items() if name.startswith(prefix)}
        if prefix:
            mine = dict(part.named_parameters())
            mine |= {name: x for name, x in part.named_buffers() if name.rpartition(".")[2] in NORM_STATISTICS}
        else:
            mine = part.state_dict(keep_vars=True)
        common = {name.split(".")[0] for name in mine} & {name.split(".")[0] for name in found}
        ours, theirs = (
            {name: tuple(x.shape) for name, x in weights.items() if name.split(".")[0] in common}
            for weights in (mine, found)
        )
        if not common or ours != theirs:
            differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            raise ValueError(
                f"{path}: expected an encoder with the same layers, got others: "
                f"{ {name: (ours.get(name), theirs.get(name)) for name in differing[:3]} } (here, there); "
                f"give this encoder the settings in {path.parent / CONFIG_FILE}, or take encoder.init=null"
            )
        with torch.no_grad():
            for name in ours:
                mine[name].copy_(found[name])


def load_motion_model(run_dir: str | Path):
    """The trained model of motion and content of a run (MC-JEPA), in eval mode on CPU, and its configuration.

    Returns:
        (MotionModel, dict).

    Raises:
        ValueError: no such run, or weights that do not fit its configuration.
    """
    from hydra.utils import instantiate

    from worldjepa.systems.mc_jepa import MotionModel

    config = read_config(run_dir)
    tensors, _ = load_tensors(Path(run_dir) / MODEL_FILE)
    moves = any(name.startswith("predictor.") for name in tensors)
    model = MotionModel(instantiate(config["encoder"]), instantiate(config["predictor"]) if moves else None)
    load_weights(model, tensors, Path(run_dir) / MODEL_FILE)
    return model.eval(), config


def load_bev_model(run_dir: str | Path):
    """The trained model of a LiDAR's bird's-eye view of a run (AD-L-JEPA), in eval mode on CPU, and its configuration.

    Returns:
        (BevModel, dict).

    Raises:
        ValueError: no such run, or weights that do not fit its configuration.
    """
    config = read_config(run_dir)
    return _trained(make_bev_model(config), run_dir), config


def load_bev_world(run_dir: str | Path):
    """The trained world model of a street's bird's-eye view of a run, in eval mode on CPU, and its configuration.

    Returns:
        (BevWorld, dict).

    Raises:
        ValueError: no such run, or weights that do not fit its configuration.
    """
    from worldjepa.types import EnvSpec

    config = read_config(run_dir)
    if kind_of(config) != "driving":
        raise ValueError(
            f"{run_dir} holds no world model of a street; train one: scripts/train_world_model.py env=street"
        )
    tensors, metadata = load_tensors(Path(run_dir) / MODEL_FILE)
    model = make_bev_world(config, make_bev_view(config), EnvSpec.from_dict(metadata["spec"]))
    load_weights(model, tensors, Path(run_dir) / MODEL_FILE)
    return model.eval(), config


def make_token_model(config):
    """The model of tokens that a resolved configuration describes, new.

    Returns:
        :class:`worldjepa.systems.masked.TokenModel`.
    """
    from worldjepa.config import build
    from worldjepa.systems.masked import TokenModel

    tokenizer = build(config["tokenizer"])
    encoder = build(config["encoder"], token_dim=tokenizer.token_dim, num_pinned=tokenizer.num_pinned)
    predictor = config.get("predictor")
    predictor = None if predictor is None else build(predictor, latent_dim=encoder.latent_dim)
    return TokenModel(tokenizer, encoder, predictor, config["pool"], config.get("slices"))


def part_of_run(run_dir: str, name: str) -> dict[str, Any]:
    """The configuration of a static run's ``tokenizer`` or ``encoder``, whole, to be built into another model.

    Raises:
        ValueError: no such run, or none that learned from samples.
    """
    config = read_config(run_dir)
    if kind_of(config) != "samples":
        raise ValueError(
            f"{run_dir}: expected a run of the static family, such as of scripts/pretrain.py model=i_jepa data=frames"
        )
    tokenizer = make_token_model(config).tokenizer
    sizes = {"token_dim": tokenizer.token_dim, "num_pinned": tokenizer.num_pinned} if name == "encoder" else {}
    return {**config[name], **sizes}


def load_token_model(run_dir: str | Path):
    """The trained model of a run that learned from samples, in eval mode on CPU, and its resolved configuration.

    Returns:
        (TokenModel, dict).

    Raises:
        ValueError: no such run, or weights that do not fit its configuration.
    """
    config = read_config(run_dir)
    return _trained(make_token_model(config), run_dir), config


def _trained(model: nn.Module, run_dir: str | Path) -> nn.Module:
    """``model`` with a run's weights, in eval mode."""
    path = Path(run_dir) / MODEL_FILE
    load_weights(model, load_tensors(path)[0], path)
    return model.eval()


def make_bev_model(config: Mapping[str, Any]):
    """The :class:`worldjepa.systems.ad_l_jepa.BevModel` that a resolved configuration describes, new."""
    from hydra.utils import instantiate

    from worldjepa.systems.ad_l_jepa import BevModel

    return BevModel(*(instantiate(config[part]) for part in ("encoder", "predictor", "sensor")))


def make_bev_view(config: Mapping[str, Any]):
    """The :class:`worldjepa.encoders.bev_view.BevView` of a world model of a street, with new weights."""
    from hydra.utils import instantiate

    from worldjepa.encoders.bev_view import BevView

    return BevView(instantiate(config["encoder"]), instantiate(config["sensor"]), config["area"])


def make_bev_world(config: Mapping[str, Any], view, spec):
    """The :class:`worldjepa.systems.bev_world.BevWorld` on a view, for an environment's specification."""
    from hydra.utils import instantiate

    from worldjepa.systems.bev_world import BevWorld

    parts = (instantiate(config[part]) for part in ("predictor", "vehicle"))
    return BevWorld(view, *parts, spec.action_low, spec.action_high)


def kind_of(config: Mapping[str, Any]) -> Literal["latents", "motion", "scans", "driving", "samples"]:
    """What a run's configuration asks for: latents of observations (world models and their like), motion and content of
    pictures (MC-JEPA), latents of a LiDAR's scans (AD-L-JEPA), what comes next in those, to drive by, or latents of
    samples' tokens (the static family)."""
    if "tokenizer" in config:
        return "samples"
    if "content_views" in config:
        return "motion"
    if "vehicle" in config:
        return "driving"
    return "scans" if "sensor" in config else "latents"


def read_config(run_dir: str | Path) -> dict[str, Any]:
    """The resolved configuration of a run; a ValueError where there is none."""
    from omegaconf import OmegaConf

    path = Path(run_dir) / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{run_dir}: expected a run with {CONFIG_FILE} and {MODEL_FILE}; give run=<its directory>")
    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)


def load_world_model(run_dir: str | Path):
    """The trained world model of a run, in eval mode on CPU, and its resolved configuration.

    Returns:
        (WorldModel, dict).

    Raises:
        ValueError: no such run, no configuration, or weights that do not fit it.
    """
    from hydra.utils import instantiate

    from worldjepa.systems.world_model import build_world_model
    from worldjepa.types import EnvSpec

    run_dir = Path(run_dir)
    config = read_config(run_dir)
    if kind_of(config) == "motion":
        raise ValueError(
            f"{run_dir} holds a model of motion and content, no world model; start one from it with "
            f"encoder=pyramid encoder.init={run_dir}"
        )
    if kind_of(config) in ("scans", "driving"):
        raise ValueError(f"{run_dir} holds a model of LiDAR scans, no world model of what observations an agent has")
    tensors, metadata = load_tensors(run_dir / MODEL_FILE)
    if "spec" not in metadata:
        raise ValueError(f"{run_dir / MODEL_FILE}: holds no environment specification; it was not saved by worldjepa")
    model = build_world_model(
        instantiate(config["encoder"]),
        instantiate(config["predictor"]),
        EnvSpec.from_dict(metadata["spec"]),
        config["env"]["frameskip"],
    )
    load_weights(model, tensors, run_dir / MODEL_FILE)
    return model.eval(), config
