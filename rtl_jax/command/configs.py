"""`rtl-jax configs`: the configs that come with the package."""

import argparse
import itertools
from collections.abc import Sequence

from rtl_jax.lab import config_files


def main(arguments: Sequence[str], prog: str) -> int:
    """Print every config by its name, grouped, with the first line of its description."""
    parser = argparse.ArgumentParser(prog, description="List the configs that come with rtl_jax.")
    parser.parse_args(arguments)
    names = config_files.names()
    width = max(map(len, names))
    for folder, group in itertools.groupby(names, lambda name: name.rpartition("/")[0]):
        print(f"{folder or 'general'}:")
        for name in group:
            print(f"  {name:{width}}  {config_files.summary(name)}")
        print()
    program = prog.removesuffix(" configs")
    print(f"{program} --config NAME runs one, and {config_files.DIRECTORY} has their files.")
    return 0
