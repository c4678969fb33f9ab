"""A model card, made only from what a network's manifest and rows say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rtl_jax.errors import UserError
from rtl_jax.models.network import Network

_UNKNOWN = "not known"
_COLUMNS = [
    *("run", "task", "method", "test_dataset", "variant", "optimizer", "epoch", "accuracy"),
    *("num_test_images", "norm", "eps", "config"),
]
# The settings that make a fine-tuned network, beside the seed, but for those of its test images.
_TRAINING = ("source", "target", "augmentation", "transfer")
_TESTING = ("num_test_images", "data_dir")


class Measured(NamedTuple):
    """An accuracy in percent, the number of images, and the attack ('' for none)."""

    accuracy: float
    images: int
    attack: str = ""

    def words(self) -> str:
        """Format the accuracy with its 95 % interval."""
        # Imported here because it takes half a second.
        from scipy.stats import binomtest

        hits = round(self.accuracy / 100 * self.images)
        ends = binomtest(hits, self.images).proportion_ci(method="wilson")
        return (
            f"{self.accuracy:.1f} % [{100 * ends.low:.1f}, {100 * ends.high:.1f}] "
            f"of {self.images:,} test images"
        )


def measured(network: Network, rows: Path | None) -> list[Measured]:
    """Return a network's accuracies from the rows of a work directory, the clean one first.

    They are those on its data set's own, unchanged test images; rows of attacks are its own if
    their settings are those of its training. A network trained on all images, in folds, has no test
    accuracy there. Raises UserError if the directory has no rows or one of their files is damaged.
    """
    if rows is None:
        return []
    import pandas as pd

    files = sorted((rows / "rows").glob("*.parquet"))
    if not files:
        raise UserError(f"{rows} has no results: expected Parquet files in {rows / 'rows'}")
    tables = []
    for file in files:
        try:
            table = pd.read_parquet(file, engine="pyarrow")
            tables.append(table.reindex(columns=_COLUMNS))  # older files lack some
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file} is damaged ({error}): remove it") from error
    table = pd.concat(tables, ignore_index=True)
    table = table[(table[["test_dataset", "variant"]].fillna("") == "").all(axis=1)]
    own = table[table["run"] == network.provenance.get("run")]
    own = own[own["method"].isin(["transfer", "pretrain"])].sort_values("epoch")
    settings: Mapping[str, Any] = network.provenance.get("settings") or {}
    target = settings.get("target", {})
    tested = target.get("folds") is None or target.get("fold") is not None
    found = [
        Measured(float(row.accuracy), int(row.num_test_images))
        for row in own.tail(1).itertuples()
        if tested
    ]
    attacked = table[(table["task"] == "attack") & table["optimizer"].notna()]
    for row in attacked.itertuples():
        if tested and row.eps > 0 and _trained_by(row.config, settings):
            attack = f"{row.method} in {row.norm}, eps {row.eps:.4g}"
            found.append(Measured(float(row.accuracy), int(row.num_test_images), attack))
    return found


def _trained_by(config: object, settings: Mapping[str, Any]) -> bool:
    """Whether a row's settings, as JSON, have a network's training; they may have further fields.

    A later version adds fields, with the values that the network's had.
    """
    try:
        given, own = json.loads(str(config)), json.loads(json.dumps(dict(settings)))
        own["target"] = {k: v for k, v in own["target"].items() if k not in _TESTING}
        same = all(own[group].items() <= given[group].items() for group in _TRAINING)
        return same and own["seed"] == given["seed"]
    except (ValueError, KeyError, TypeError, AttributeError):  # of another program, or not trained
        return False


def model_card(
    network: Network,
    name: str,
    image_size: int,
    facts: list[Measured],
    *,
    license: str | None,
    repository: str | None,
) -> str:
    """Return the text of README.md, which begins with the metadata that the hub reads."""
    known, arch = network.provenance, network.architecture
    settings: Mapping[str, Any] = known.get("settings") or {}
    target, source = settings.get("target", {}), settings.get("source", {})
    where = f"hf-hub:{repository}" if repository else "local-dir:PATH"
    clean = [fact for fact in facts if not fact.attack]
    lines = [
        *("---", "library_name: timm", "pipeline_tag: image-classification"),
        *(f"license: {license or 'unknown'}", "tags:", "- image-classification", "- timm"),
        *("- adversarial-robustness", "- rtl_jax", "---", f"# {name}", ""),
        f"A {arch.name} of {network.num_classes} classes, trained with rtl_jax.",
        "",
        *("| | |", "|---|---|"),
        f"| parameters | {sum(value.size for value in network.params.values()):,} |",
        f"| images | {image_size} x {image_size} px, mean {_list(arch.mean)}, "
        f"std {_list(arch.std)} of pixels in [0, 1] |",
        f"| source network | {_text(source.get('checkpoint'))} |",
        f"| data | {_text(target.get('dataset'))} |",
        f"| training images | {_number(known.get('training_images'), target)} |",
        f"| accuracy | {clean[0].words() if clean else _UNKNOWN} |",
        *(f"| robust accuracy, {fact.attack} | {fact.words()} |" for fact in facts if fact.attack),
        *([] if any(fact.attack for fact in facts) else [f"| robust accuracy | {_UNKNOWN} |"]),
        f"| license | {license or _UNKNOWN} |",
        "",
    ]
    if facts:
        lines += ["Intervals are Wilson's, 95 %.", ""]
    if network.class_names is not None:
        names = ", ".join(map(_text, network.class_names[:100]))
        more = ", ..." if len(network.class_names) > 100 else ""
        lines += [f"Classes: {names}{more}.", ""]
    lines += [
        *("```python", "import timm, torch", ""),
        f"model = timm.create_model({json.dumps(where)}, pretrained=True).eval()",
        "transform = timm.data.create_transform(",
        "    **timm.data.resolve_model_data_config(model), is_training=False",
        ")",
        f"probabilities = (model(transform(image)[None]){_temperature(network)}).softmax(1)",
        "```",
        "",
    ]
    if network.temperature != 1:
        lines += [
            f"Logits are divided by {network.temperature:.4g}, which was fitted so that "
            "probabilities are calibrated; the weights do not contain it.",
            "",
        ]
    return "\n".join(lines)


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _text(value: object) -> str:
    """Format a name for Markdown; of a local path, only the last part."""
    if not value:
        return _UNKNOWN
    text = " ".join(str(value).split())
    kind, _, rest = text.partition(":")
    if "/" in rest and kind in ("folder", "list", "npz"):
        text = f"{kind}:{Path(rest).name}"
    elif text.startswith(("/", "~")):
        text = Path(text).name
    return text.replace("|", "\\|").replace("<", "&lt;")


def _number(digests: object, target: Mapping[str, Any]) -> str:
    if isinstance(digests, list):
        return f"{len(digests):,}"
    return f"{target['num_images']:,}" if target.get("num_images") else _UNKNOWN


def _temperature(network: Network) -> str:
    return "" if network.temperature == 1 else f" / {network.temperature:.4g}"
