"""Rows, which are evaluations of runs, and their storage.

A run's rows are one Parquet file, WORKDIR/rows/RUN.parquet, written atomically; `read_rows` joins
those of a work directory into one pandas frame, without JAX. WORKDIR may be any path that
`etils.epath` opens.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from etils import epath

from rtl_jax.data.corruptions.severities import Corruption
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import parse_json
from rtl_jax.version import __version__

if TYPE_CHECKING:
    import pyarrow

SCHEMA_VERSION = 1

# The methods without a source, and their names in tables.
PIXEL_BASELINES = {
    "nearest_pixels": "1-NN on pixels",
    "ridge_pixels": "ridge on pixels",
    "linear_pixels": "linear on pixels",
}

# Column -> (pandas dtype, meaning). Adding a column keeps the version (its dtype must be nullable,
# since older files lack it); changing a column's meaning increments it.
SCHEMA: dict[str, tuple[str, str]] = {
    "schema_version": ("int64", "version of this table"),
    "run": ("string", "identifies settings, source network and data; 16 hex digits"),
    "task": ("string", "finetune, sweep, attack, pretrain, influence, visualize or choose"),
    "method": (
        "string",
        "transfer, linear_pixels, ridge_pixels and nearest_pixels (logistic regression, ridge "
        "regression and 1-nearest-neighbour on raw pixels), pretrain, pgd, fourier, gaussian, "
        "autoattack, smoothing, corruptions, influence, influence_trainable, gradient, loss, "
        "features, gradients or choose",
    ),
    "source": ("string", "source.checkpoint as given"),
    "source_sha256": ("string", "hash of the source's original file, if known"),
    "architecture": ("string", "architecture of the network, such as resnet50"),
    "dataset": ("string", "target.dataset as given"),
    "test_dataset": ("string", "target.test_dataset, if the test images are of another data set"),
    "variant": (
        "string",
        "low_resolution=PIXELS or low_pass=FREQUENCIES for all images, corruption=NAME:SEVERITY"
        " for test images only; otherwise missing",
    ),
    "data_order": (
        "string",
        "original: order of the source files; tfds: order of a prepared data set",
    ),
    "num_classes": ("int64", "number of classes of the target"),
    "num_images": ("Int64", "number of training images of a fine-tuning"),
    "num_test_images": ("int64", "number of test images evaluated"),
    "image_size": ("int64", "size in pixels at which the network sees images"),
    "blocks": (
        "Int64",
        "number of residual blocks trained together with the head; missing: all layers",
    ),
    "frozen_batch_norm": (
        "string",
        "BatchNorm statistics of frozen blocks: batch, source or adapt",
    ),
    "seed": (
        "int64",
        "seed of the subset, the head, the batches and the augmentation, or of an attack's "
        "random starts",
    ),
    "fold": ("Int64", "cross-validation: the fold that was tested on, from 0"),
    "epoch": ("Int64", "number of epochs trained before this evaluation; 0: a solved head alone"),
    "epochs": ("Int64", "number of epochs of the whole training"),
    "head_fit": ("string", "how the new head was fitted: sgd, ridge or logistic"),
    "optimizer": ("string", "training: sgd, or the name of an optax optimizer"),
    "learning_rate": ("float64", "training: learning rate, the peak of its schedule"),
    "weight_decay": ("float64", "training: weight decay"),
    "perturbation": (
        "string",
        "training: perturbation of the images, none, pgd, fourier or gaussian",
    ),
    "train_eps": ("float64", "training: radius of the perturbation; missing without one"),
    "beta": ("float64", "training: beta of TRADES; missing without it"),
    "accuracy": (
        "float64",
        "top-1 accuracy on the test images, percent; under an attack: robust accuracy",
    ),
    "loss": (
        "float64",
        "mean test cross-entropy, nats; under an attack: mean of the attack's loss",
    ),
    "train_accuracy": ("float64", "accuracy during that epoch, on augmented images, percent"),
    "train_loss": ("float64", "mean loss during that epoch, nats"),
    "norm": ("string", "attack: norm of the ball, linf, l2, l1 or unconstrained"),
    "eps": ("float64", "attack: radius in that norm, for pixels in [0, 1]"),
    "warnings": ("string", "checks of AutoAttack that failed, comma-separated"),
    "top1_match": (
        "float64",
        "influence: test images whose most influential training image has their label, percent",
    ),
    "top5_match": (
        "float64",
        "influence: test images that share their label with at least three of their five most "
        "influential training images, percent",
    ),
    "inspected": ("float64", "flipped labels: training images inspected, percent"),
    "recall": (
        "float64",
        "flipped labels: those among the images inspected, percent",
    ),
    "roughness": (
        "float64",
        "visualize: total variation divided by absolute value, of input gradients or of the "
        "changes that raise a feature, averaged over images",
    ),
    "seconds": (
        "float64",
        "time since the run started, over all sessions, including compilation; for a sweep, the"
        " run's share of its program",
    ),
    "config": ("string", "all settings, as JSON"),
    "platform": ("string", "cpu, gpu or tpu"),
    "device_kind": ("string", "kind of accelerator"),
    "num_devices": ("int64", "number of local devices"),
    "versions": ("string", "versions of Python and of the main packages, as JSON"),
    "time": ("string", "time when the row was made, UTC, ISO 8601"),
}

# Valid ranges of a row's numbers, by column, since files from elsewhere may contain anything.
# Axis ticks or logarithms of invalid numbers would fail far from here.
_PERCENT = (0.0, 100.0)
BOUNDS: dict[str, tuple[float, float]] = {
    "schema_version": (1, 10**6),
    "num_classes": (0, limits.CLASSES),
    "num_images": (1, limits.IMAGES),
    "num_test_images": (0, limits.IMAGES),
    "image_size": (0, limits.IMAGE_SIZE),
    "blocks": (0, limits.BLOCKS),
    "fold": (0, limits.IMAGES),
    "epoch": (0, limits.EPOCHS),
    "epochs": (0, limits.EPOCHS),
    "eps": (0, limits.RADIUS),
    "train_eps": (0, limits.RADIUS),
    **dict.fromkeys(("accuracy", "train_accuracy", "top1_match", "top5_match"), _PERCENT),
    **dict.fromkeys(("inspected", "recall"), _PERCENT),
    "num_devices": (0, limits.IMAGES),
}

# What identifies a row within a run.
_UNIQUE = ["run", "method", "source", "epoch", "eps", "inspected", "variant"]

_USUAL = Experiment()

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and the packages that results depend on."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "rtl_jax": __version__, **packages}


def now() -> str:
    """Return the time in UTC, in ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def row(experiment: Experiment, **columns: Any) -> dict[str, Any]:
    """Return a row from an experiment's settings and `columns`; other columns are None."""
    return {
        **dict.fromkeys(SCHEMA),
        "schema_version": SCHEMA_VERSION,
        "task": experiment.task,
        "source": experiment.source.checkpoint,
        "dataset": experiment.target.dataset,
        "test_dataset": experiment.target.test_dataset,
        "variant": experiment.target.variant,
        "image_size": experiment.target.image_size,
        "seed": experiment.seed,
        "fold": experiment.target.fold,
        "config": as_json(experiment.to_dict()),
        "versions": as_json(versions()),
        "time": now(),
        **columns,
    }


def rows_path(workdir: epath.PathLike, run: str) -> epath.Path:
    """Return the path of a run's rows."""
    return epath.Path(workdir) / "rows" / f"{run}.parquet"


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame with the schema's columns and dtypes.

    Raises ValueError for an unknown or missing column.
    """
    rows = [{"schema_version": SCHEMA_VERSION, **row} for row in rows]
    for row in rows:
        if row.keys() ^ SCHEMA.keys():
            raise ValueError(
                f"columns differ from the schema: {sorted(row.keys() ^ SCHEMA.keys())}"
            )
    table = pd.DataFrame(rows, columns=list(SCHEMA))
    return table.astype({column: dtype for column, (dtype, _) in SCHEMA.items()})


def write_rows(workdir: epath.PathLike, run: str, rows: Iterable[Mapping[str, Any]]) -> epath.Path:
    """Write a run's rows atomically, replacing an older file of the same run."""
    path = rows_path(workdir, run)
    # Hidden and not *.parquet, so that no reader mistakes it for a finished file.
    temporary = path.parent / f".{run}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    table = frame(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            table.to_parquet(file, engine="pyarrow", index=False, write_page_checksum=True)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write the rows to {path} ({error}): make room or choose another work "
            "directory, and run the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def read_rows(workdir: epath.PathLike) -> pd.DataFrame:
    """Read all rows under a work directory, sorted by run, method, epoch and eps.

    Raises UserError if there are none, if a file is damaged (naming it), or if one was written with
    a newer schema.
    """
    # Imported here because it takes half a second.
    import pyarrow

    paths = _files(workdir)
    if not paths:
        directory = epath.Path(workdir) / "rows"
        raise UserError(f"{workdir} has no results: expected Parquet files in {directory}")
    # Joined before conversion: creating thousands of small frames would take most of the time.
    types = {"string": pyarrow.large_string(), "float64": pyarrow.float64()}
    schema = pyarrow.schema(
        [(column, types.get(dtype, pyarrow.int64())) for column, (dtype, _) in SCHEMA.items()]
    )
    tables = pyarrow.concat_tables(
        [_read(path, schema) for path in paths], promote_options="default"
    )
    joined = tables.to_pandas(types_mapper={pyarrow.int64(): pd.Int64Dtype()}.get)
    unknown = [column for column in joined if column not in SCHEMA]
    return (
        joined.reindex(columns=[*SCHEMA, *unknown])
        .astype({column: dtype for column, (dtype, _) in SCHEMA.items()})
        .sort_values(["run", "method", "epoch", "eps"])
        # A run done by two processes, or repeated to keep more of its results, counts once.
        .drop_duplicates(_UNIQUE, ignore_index=True)
    )


def finished(workdir: epath.PathLike, column: str = "run") -> set[str]:
    """Return the values of a column in all rows under a work directory; empty without rows.

    Raises UserError if a file is damaged.
    """
    return set(recorded(workdir, [column])[column])


def recorded(workdir: epath.PathLike, columns: Sequence[str]) -> pd.DataFrame:
    """Return the different values of columns, together, in all rows under a work directory.

    Raises UserError if a file is damaged.
    """
    found = [pd.DataFrame(columns=list(columns), dtype="string")]
    for path in _files(workdir):
        with _naming(path), path.open("rb") as file:
            found.append(pd.read_parquet(file, engine="pyarrow", columns=list(columns)))
    return pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)


def group_name(runs: Sequence[str]) -> str:
    """Name a file with the rows of several runs by all of them.

    A finished run is in a second group if more of it is asked for later: the second file must not
    replace the rows of the others in the first.
    """
    return f"{runs[0]}-{hashlib.sha256(' '.join(runs).encode()).hexdigest()[:8]}"


def _files(workdir: epath.PathLike) -> list[epath.Path]:
    directory = epath.Path(workdir) / "rows"
    return sorted(directory.glob("*.parquet")) if directory.exists() else []


@contextlib.contextmanager
def _naming(path: epath.Path) -> Iterator[None]:
    """Raise a UserError that names the file if it cannot be read."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's are ValueErrors
        raise UserError(
            f"{path} is damaged ({error}): remove it and run its config again"
        ) from error


def _read(path: epath.Path, schema: "pyarrow.Schema") -> "pyarrow.Table":
    """Read a file's rows: the schema's columns that it has, with the schema's types, then others.

    Raises UserError if the file is damaged or its schema is newer.
    """
    from pyarrow import parquet

    with _naming(path):
        with path.open("rb") as file:
            # Threads would cost more than they gain on such small files.
            pages = parquet.ParquetFile(file, page_checksum_verification=True)
            table = pages.read(use_threads=False).replace_schema_metadata(None)
        _check_types(table, schema)
        version = int(max(table["schema_version"].to_pylist()))
        if version > SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema {version}, this code reads up to {SCHEMA_VERSION}: "
                "update rtl_jax"
            )
        whole = [column for column, (dtype, _) in SCHEMA.items() if dtype == "int64"]
        if holes := [column for column in whole if table[column].null_count]:
            raise ValueError(f"a value is missing in {holes}")
        _check_values(table)
        if table.schema == schema:
            return table
        missing = [column for column in SCHEMA if column not in table.column_names]
        unknown = [column for column in table.column_names if column not in SCHEMA]
        if missing and unknown:  # older files lack some, newer ones have more: never both
            raise ValueError(f"it has the columns {unknown} and not {missing}")
        for column in (column for column in SCHEMA if column not in missing):
            index = table.column_names.index(column)
            values = table[column].cast(schema.field(column).type)
            table = table.set_column(index, schema.field(column), values)
        return table


def _check_types(table: "pyarrow.Table", schema: "pyarrow.Schema") -> None:
    """Raise ValueError unless columns of numbers and of text have such types."""
    from pyarrow import types

    for field in schema:
        if field.name not in table.column_names:
            continue
        kind, text = table.schema.field(field.name).type, types.is_large_string(field.type)
        strings = types.is_string(kind) or types.is_large_string(kind)
        numbers = types.is_integer(kind) or types.is_floating(kind)
        if not types.is_null(kind) and not (strings if text else numbers):
            expected = "text" if text else "numbers"
            raise ValueError(f"{field.name}: expected {expected}, received {kind}")


def _check_values(table: "pyarrow.Table") -> None:
    """Raise ValueError for texts and numbers that no run writes, before they are used.

    Non-finite numbers, such as the accuracy of a training that diverged, are allowed.
    """
    from pyarrow import compute, types

    for name in (name for name in SCHEMA if name in table.column_names):
        values = table[name]
        if types.is_null(values.type) or values.null_count == len(values):
            continue
        if name in BOUNDS:
            low, high = BOUNDS[name]
            if types.is_floating(values.type):
                values = values.filter(compute.is_finite(values))
            found = compute.min_max(values).as_py()
            for value in (found["min"], found["max"]):
                if value is not None and not low <= value <= high:
                    expected = f"{low:,} to {high:,}"
                    raise ValueError(f"{name}: expected {expected}, received {value:,}")
        elif SCHEMA[name][0] == "string":
            most = limits.CONFIG_BYTES if name in ("config", "versions") else limits.TEXT
            longest = compute.max(compute.binary_length(values)).as_py()
            if longest > most:
                raise ValueError(f"{name}: expected at most {most:,} bytes, received {longest:,}")
    for config in set(table["config"].to_pylist() if "config" in table.column_names else ()):
        _check_config(config or "{}")


def _check_config(text: str) -> None:
    settings = parse_json(text)
    if not isinstance(settings, dict):
        raise ValueError(f"config: expected a table of settings, received {text[:60]}")
    for name in (field.name for field in dataclasses.fields(Experiment)):
        grouped = dataclasses.is_dataclass(getattr(_USUAL, name))
        if grouped and not isinstance(settings.get(name, {}), dict):
            raise ValueError(f"config: expected {name} to be a group of settings")


def as_json(value: Mapping[str, Any]) -> str:
    """Return compact JSON with sorted keys, as in the columns `config` and `versions`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def blocks_name(blocks: int | None) -> str:
    """Return '3 blocks', '1 block' or, for a missing number of trained blocks, 'every block'."""
    if pd.isna(blocks):
        return "every block"
    return f"{blocks} block{'' if blocks == 1 else 's'}"


def corruption_of(variant: str | None) -> Corruption | None:
    """Return the corruption that a row's `variant` names, or None."""
    if pd.isna(variant):
        return None
    _, found, text = str(variant).rpartition("corruption=")
    return Corruption.parse(text) if found else None


def last_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the fine-tunings' last evaluations."""
    return rows[(rows["method"] == "transfer") & (rows["epoch"] == rows["epochs"])]
