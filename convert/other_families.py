"""Unsupported families of networks, recognised by the names of their tensors."""

import re
from collections.abc import Sequence

from rtl_jax.convert.layouts import LAYOUTS

# Only this many names are searched, and none this long.
_MAX_NAMES = 10_000
_MAX_NAME = 300

_EFFICIENT = "an EfficientNet or a MobileNet of timm's"

# Patterns that must each match some name, and the family with such names; the first one counts.
_OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((r"layer[0-9]+\.0\.(se|se_module)\.(fc1?|conv)",), "a SENet (squeeze-and-excitation or so)"),
    ((r"layer1\.0\.convs\.0\.weight",), "a Res2Net"),
    ((r"layer1\.0\.conv[12]\.paths\.0\.",), "a ResNet with selective kernels"),
    ((r"layer1\.0\.conv2\.(fc1|conv)\.weight",), "a ResNeSt"),
    ((r"stage2\.0\.branches\.0\.",), "an HRNet"),
    ((r"layers\.MBconv\.",), "a MaxViT"),
    ((r"stages\.0\.blocks\.0\.(attn_block|attn_grid|conv)\.", r"stem\.conv2\."), "a MaxViT"),
    ((r"stages\.0\.blocks\.0\.conv2_kxk\.", r"stem\.conv2\."), "a CoAtNet"),
    ((r"stages\.0\.0\.conv1\.gain$", r"final_conv\."), "an NFNet"),
    ((r"(s1\.b1\.conv1\.conv|trunk_output\.block1\.)",), "a RegNet"),
    ((r"stages\.0\.0\.conv1_1x1\.conv\.", r"final_conv\."), "a RegNet (RegNetZ)"),
    ((r"features\.1\.0\.block\.0\.0\.weight$",), "an EfficientNet"),
    ((r"conv_stem\.weight$", r"blocks\.[0-9]\.0\.conv_(pwl?|dw)\."), _EFFICIENT),
    ((r"features\.1\.block\.0\.0\.weight$",), "a MobileNetV3"),
    ((r"features\.3\.squeeze\.weight$",), "a SqueezeNet"),
    ((r"inception3a\.",), "a GoogLeNet"),
    ((r"(Mixed_5b|mixed_5b)\.",), "an Inception"),
    ((r"attn\.logit_scale$",), "a Swin transformer V2"),
    ((r"blocks_token_only\.0\.",), "a CaiT"),
    ((r"blocks\.0\.attn\.pos_proj\.",), "a ConViT"),
    ((r"blocks\.0\.attn\.rel_pos\.",), "a vision transformer with relative positions"),
    ((r"blocks\.0\.attn\.q_bias$", r"blocks\.0\.(gamma_1|mlp\.fc1_[gx]\.)"), "a BEiT or an EVA"),
    ((r"blocks\.0\.mlp_tokens\.",), "an MLP-Mixer"),
    ((r"blocks\.0\.linear_tokens\.",), "a ResMLP"),
    ((r"blocks\.0\.mlp_channels\.gate\.",), "a gMLP"),
)  # fmt: skip


def other_family(names: Sequence[str]) -> str | None:
    """Return a message that names the unsupported family with these names, or None."""
    seen = [name for name in names[:_MAX_NAMES] if len(name) < _MAX_NAME]
    for patterns, words in _OTHERS:
        searches = [re.compile(rf"(?:^|\.){pattern}").search for pattern in patterns]
        if all(any(map(search, seen)) for search in searches):
            known = ", ".join(dict.fromkeys(layout.words for layout in LAYOUTS))
            return f"holds {words}, which is not supported; what is: {known}"
    return None
