"""The common corruptions of ImageNet-C and CIFAR-10-C (Hendrycks and Dietterich, ICLR 2019).

`severities` has their names and parameters, without JAX; `corrupt` applies them.
"""
