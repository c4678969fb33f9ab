"""The networks of other families in PyTorch, with a layout's names: what `--check` compares with.

timm's and torchvision's own modules where they have them, built from our description of the
network. They share nothing with `rtl_jax.models` but that description.
"""
