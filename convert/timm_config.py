"""timm's config.json beside a file, which says what no tensor of its network shows."""

from pathlib import Path
from typing import Any, NamedTuple

from rtl_jax.convert.inert import shown
from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.errors import UserError
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import is_number, is_whole, parse_json, read_bytes

_NAME = "config.json"
_MAX_BYTES = 1 << 20

# timm's arguments that names and shapes of tensors show, or that matter only in training.
_SHOWN = {
    "num_classes", "in_chans", "img_size", "patch_size", "embed_dim", "depth", "depths", "dims",
    "layers", "channels", "mlp_ratio", "qkv_bias", "qk_norm", "init_values", "class_token",
    "reg_tokens", "no_embed_class", "pre_norm", "fc_norm", "dynamic_img_size", "strict_img_size",
    "window_size", "kernel_sizes", "ls_init_value", "head_init_scale", "head_norm_first",
    "conv_mlp", "conv_bias", "use_grn", "cls_attn_layers", "use_pos_embed", "eta", "cardinality",
    "base_width", "stem_type", "stem_width", "avg_down", "block_reduce_first", "down_kernel_size",
    "zero_init_last", "growth_rate", "block_config", "bn_size", "weight_init", "fix_init",
    "drop_rate", "drop_path_rate", "drop_block_rate", "pos_drop_rate", "patch_drop_rate",
    "proj_drop_rate", "attn_drop_rate",
}  # fmt: skip
# timm's arguments by the options of layouts that they are, with values that are called otherwise.
_OPTIONS: dict[str, tuple[str, dict[Any, str]]] = {
    "act_layer": ("activation", {"swish": "silu"}),
    "global_pool": ("pool", {"avg": "average"}),
    "norm_eps": ("norm_eps", {}),
    "num_heads": ("heads", {}),
    "tokens_norm": ("tokens_norm", {True: "yes", False: "no"}),
}
# timm's pool of families without an option for it, if it is not the mean.
_POOLS = {"xcit": "token"}


class TimmConfig(NamedTuple):
    """timm's name of the architecture, and the normalisation and image size, if stated.

    `fields` has 'mean' and 'std', and `arguments` those of timm's network, as in the file.
    """

    architecture: str
    fields: dict[str, Any]
    arguments: dict[str, Any]
    image_size: int | None

    def options(self, layout: Layout) -> dict[str, Any]:
        """Return the options of a layout that the arguments of timm's network state.

        Raises UserError for an argument that the layout's networks cannot have.
        """
        found = {}
        pool = _POOLS.get(layout.family, "avg")
        for name, value in self.arguments.items():
            if name in _SHOWN or (name in _OPTIONS and value is None):  # None: timm's default
                continue
            option, values = _OPTIONS.get(name, ("", {}))
            ours = values.get(value, value) if isinstance(value, str | bool) else value
            if option in layout.options:
                known = layout.options[option].values
                if ours in known if isinstance(known, tuple) else is_number(ours):
                    found[option] = ours
                    continue
            elif name == "num_heads" or (name, value) == ("global_pool", pool):
                continue  # shapes show the heads
            raise UserError(
                f"has a {_NAME} beside it in which timm's {self.architecture} has "
                f"{name} {shown(str(value))}, which {layout.words} here cannot have: take "
                "another checkpoint, or remove the argument there if it changes nothing"
            )
        return found


def config_beside(path: Path) -> Path | None:
    """Return the path of the config beside a checkpoint, which another program may have written."""
    place = path.parent / _NAME
    return place if place.is_file() else None


def read_config(path: Path) -> TimmConfig | None:
    """Read the config beside a checkpoint; None if there is none, or another program's.

    Raises UserError if it is damaged.
    """
    place = config_beside(path)
    if place is None:
        return None
    try:
        config = parse_json(read_bytes(place, _MAX_BYTES).decode())
    except (OSError, ValueError) as error:
        raise UserError(
            f"has a damaged {_NAME} beside it ({type(error).__name__}): repair or remove it"
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        return None
    found = config.get("pretrained_cfg")
    pretrained = found if isinstance(found, dict) else config
    fields = {name: pretrained[name] for name in ("mean", "std") if name in pretrained}
    size: Any = pretrained.get("input_size")
    edge = size[-1] if isinstance(size, list) and size else None
    whole = is_whole(edge, 1, limits.IMAGE_SIZE)
    said = config.get("model_args")
    arguments = {name: config[name] for name in ("global_pool",) if name in config}
    arguments |= said if isinstance(said, dict) else {}
    return TimmConfig(config["architecture"], fields, arguments, edge if whole else None)
