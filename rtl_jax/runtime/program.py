"""The command line that started this program, for usage messages and copyable advice."""

import sys
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def typed(command: str = "") -> str:
    """Return what the user typed, such as 'python run.py', followed by the name of a command.

    If another program, such as a notebook, imports the package, it is the installed command:
    'rtl-jax', 'rtl-jax convert'.
    """
    path = Path(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    package = spec.parent if spec and path.name == "__main__.py" else None
    if package in ("convert", "rtl_jax.convert"):
        return f"python -m {package}" if command in ("", "convert") else f"rtl-jax {command}"
    if package == "rtl_jax":
        program = "python -m rtl_jax"
    elif path.name == "run.py" and path.resolve().parent == _PACKAGE.resolve().parent:
        program = "python run.py"
    else:
        program = "rtl-jax"
    return f"{program} {command}".rstrip()
