"""Networks of other families in PyTorch, with a layout's names, for comparison by `--check`.

They are timm's and torchvision's own modules if these exist, built from our description of the
network, and share nothing else with `rtl_jax.models`.
"""
