"""rtl-jax convert SOURCE DESTINATION, its `export CHECKPOINT OUT`, and its `list`."""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtl_jax.errors import UserError

if TYPE_CHECKING:
    from rtl_jax.convert.choices import Choices

_EPILOG = """
SOURCE is a .pt, .pth, .ckpt or .safetensors file, or hf:OWNER/REPO/FILE or
hf:OWNER/REPO on Hugging Face, or the short name of a published robust checkpoint, such as
salman/resnet50_l2_eps3 ({prog} list shows all).
To export: {prog} export CHECKPOINT OUT, where CHECKPOINT is a network's directory or
bundled:NAME, and OUT ends in .safetensors, .pth, .onnx, .stablehlo or .timm, or is
hf:OWNER/NAME
"""


def main(arguments: Sequence[str], prog: str = "rtl-jax convert") -> int:
    """Run one command; return 0, 2 for user-fixable errors, or 1 for a bug of ours.

    A check that finds a difference is such a bug. `prog` is what was typed before `arguments`.
    """
    arguments = list(arguments)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what we report
    try:
        if arguments[:1] == ["export"]:
            return _export(arguments[1:], f"{prog} export")
        if arguments == ["list"]:
            from rtl_jax.convert.known import table

            print(table())
            return 0
        return _convert(arguments, prog)
    except UserError as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"convert: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        return 2


def _convert(arguments: Sequence[str], prog: str) -> int:
    from rtl_jax.convert.layouts import all_options

    parser = argparse.ArgumentParser(
        prog, description="Convert a PyTorch checkpoint.", epilog=_EPILOG.format(prog=prog)
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("destination", metavar="DESTINATION", type=Path)
    parser.add_argument("--check", action="store_true", help="compare with the network in PyTorch")
    parser.add_argument("--arch", metavar="NAME", help="fail unless the file holds this network")
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}", type=_numbers, metavar="R,G,B", help="override the normalisation"
        )
    parser.add_argument("--key", help="dictionary in the file that has the weights; a.b if nested")
    parser.add_argument("--prefix", help="prefix of the names of the network's tensors")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="tensors that are not part of the network, such as 'criterion.*'; repeatable",
    )
    parser.add_argument(
        "--head",
        metavar="zeros|seed:N",
        help="placeholder for a missing head, which fine-tuning replaces",
    )
    for name, option in all_options().items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(option.values, tuple):
            parser.add_argument(flag, choices=option.values, help=option.words)
        else:
            parser.add_argument(flag, type=option.values, metavar="NUMBER", help=option.words)
    parser.add_argument(
        "--reference",
        metavar="FILE.npz",
        type=Path,
        help="fail unless the network reproduces these logits: arrays images (in [0, 1], before "
        "any normalisation) and logits, from your own model",
    )
    parser.add_argument(
        "--attack",
        action="append",
        metavar="NORM:EPS",
        help="with --check: also compare robust accuracies, such as l2:3 or linf:4/255; repeatable",
    )
    parser.add_argument(
        "--data",
        metavar="SPEC",
        help="the images to attack: digits (the default), tfds:NAME, folder:PATH or npz:PATH",
    )
    parser.add_argument("--num-images", type=int, metavar="N", help="number of images (default 32)")
    parser.add_argument(
        "--image-size", type=int, metavar="PX", help="their size (default 224; small stem: 32)"
    )
    options = parser.parse_args(arguments)
    from rtl_jax.convert.converter import convert
    from rtl_jax.convert.reference import load_reference

    if options.check:
        from rtl_jax.convert.torch_needed import import_torch

        import_torch("--check")
    # Problems with the images to attack are reported before anything is written.
    attack = _attack(options) if options.attack else _no_attack(options)
    if options.head and (options.reference or options.attack):
        raise UserError("--reference and --attack need a network with a head of its own")
    reference = None if options.reference is None else load_reference(options.reference)
    _look_up(options)
    convert(
        options.source,
        options.destination,
        reference=reference,
        **vars(_choices(options)),
    )
    if not options.check:
        return 0
    return _check(options) or attack()


def _look_up(options: argparse.Namespace) -> None:
    """Replace the short name of a published checkpoint by its location, and set its choices.

    These are what no tensor shows; choices on the command line take precedence.
    """
    from rtl_jax.convert.converter import free_destination
    from rtl_jax.convert.known import find, place

    known = find(options.source)
    if known is None:
        return
    free_destination(options.destination)  # before a long download
    for name, value in known.choices.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.source = place(known, print)
    print(f"{known.name}: {known.arch}, {known.data}, {known.threat}; {known.flags or 'as it is'}")


def _choices(options: argparse.Namespace) -> "Choices":
    from rtl_jax.convert.choices import Choices
    from rtl_jax.convert.layouts import all_options

    fields = [field.name for field in dataclasses.fields(Choices) if field.name != "options"]
    return Choices.of(**{name: getattr(options, name) for name in (*fields, *all_options())})


def _check(options: argparse.Namespace) -> int:
    from rtl_jax.convert.hub import expanded
    from rtl_jax.convert.layouts import layout_of
    from rtl_jax.convert.parity import TOLERANCE, differences
    from rtl_jax.models.network import Network

    destination = options.destination
    rows = differences(options.source, destination, choices=_choices(options))
    worst = max(rows, key=lambda row: row.relative)
    if worst.relative <= TOLERANCE:
        network = Network.load(expanded(destination).absolute())
        arch = network.architecture
        layout = layout_of(arch, network.provenance.get("layout"))
        compared, whose = ("every stage", "its") if len(rows) > 2 else ("logits", "their")
        print(f"equal: {compared} within {worst.relative:.1e} of {whose} largest value")
        print(
            f"compared: {layout.torch_words} with these weights, in PyTorch, "
            f"{layout.described(arch)}"
        )
        if options.reference is None:
            print(
                "not compared: the author's own network, whose settings no tensor shows; "
                "--reference FILE.npz compares with its logits"
            )
        return 0
    print(
        f"convert: {worst.stage} differs by {worst.relative:.1e} of its largest value, more than "
        f"{TOLERANCE:g}: do not use {destination}, and report this",
        file=sys.stderr,
    )
    return 1


def _no_attack(options: argparse.Namespace) -> Callable[[], int]:
    for name in ("data", "num_images", "image_size"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} needs --attack NORM:EPS")
    return lambda: 0


def _attack(options: argparse.Namespace) -> Callable[[], int]:
    """Load the images to attack; return the attack, to be called after the conversion."""
    if not options.check:
        raise UserError("--attack compares with PyTorch: add --check")
    from rtl_jax.convert.robustness import compare_robustness, load_pictures, parse_ball

    balls = [parse_ball(text) for text in options.attack]
    number = 32 if options.num_images is None else options.num_images
    pictures = load_pictures(options.data or "digits", number, options.image_size)

    def attack() -> int:
        rows = compare_robustness(
            options.source,
            options.destination,
            balls,
            pictures,
            true_labels=options.data is not None,
            choices=_choices(options),
            size=options.image_size,
        )
        different = [row.ball.name for row in rows if not row.agrees]
        if not different:
            print("equally robust: accuracies agree to one point or one image")
            return 0
        print(
            f"convert: under {', '.join(different)} accuracies differ by more than one point and "
            f"more than one image: do not use {options.destination}, and report this",
            file=sys.stderr,
        )
        return 1

    return attack


def _export(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(
        prog,
        description="Write a network for PyTorch or timm, or as a function in ONNX or StableHLO, "
        "or upload it to the Hugging Face hub.",
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a network's directory, or bundled:NAME"
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        help="a .safetensors, .pth, .onnx or .stablehlo file, a .timm folder, or hf:OWNER/NAME",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PX",
        help="size of the images that a function takes (default: the network's own)",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="for the model card, in the hub's notation, such as apache-2.0",
    )
    parser.add_argument(
        "--rows",
        metavar="WORKDIR",
        type=Path,
        help="with the accuracies for the model card (default: the one that CHECKPOINT is in)",
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    options = parser.parse_args(arguments)
    from rtl_jax.convert.export import export

    export(
        options.checkpoint,
        options.out,
        image_size=options.image_size,
        license=options.license,
        rows=options.rows,
        private=options.private,
    )
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError(f"expected three numbers as R,G,B, received {text!r}")
    return numbers
