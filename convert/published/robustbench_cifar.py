"""RobustBench's CIFAR-10 and CIFAR-100 checkpoints of supported families.

Accuracies, architectures and locations are those of its README and its `model_zoo`
(https://github.com/RobustBench/robustbench), as is whatever a file does not say of its network.
"""

from typing import Any

from rtl_jax.convert.published.known import Known, on_drive

# A line for each: name, architecture, clean and robust accuracy, Google Drive id, and how it is
# built, a key of `_HOW`.
_CIFAR10_LINF = """
Wang2023Better_WRN-70-16             wrn70_16 93.25 70.69 1-RF7ZSS-PAh6bfQcuqx4lh9bc9BUGnap dm
Cui2023Decoupled_WRN-28-10           wrn28_10 92.16 67.73 1-AaTrYt23WJFR22hXgBd-i6kjpsz6Hf2 dm
Wang2023Better_WRN-28-10             wrn28_10 92.44 67.31 1-6MYKJdECDVGaWjj6GgqvaT95BGKhUvI dm
Rebuffi2021Fixing_70_16_cutmix_extra wrn70_16 92.23 66.56 1qKDTp6IJ1BUXZaRtbYuo_t0tuDl_4mLg dm
Gowal2021Improving_70_16_ddpm_100m   wrn70_16 88.74 66.10 10qBoDG_NomJBrRFeTsSwEcJF1GA-sjC4 dm
Gowal2020Uncovering_70_16_extra      wrn70_16 91.10 65.87 1GxryYj_Or-VCDca0wgiFLz4ssXSZXQoJ dm
Rebuffi2021Fixing_70_16_cutmix_ddpm  wrn70_16 88.54 64.20 1-8CWRT-OFWyrz4T4s0I2mbFjPg8K_MUi dm
Gowal2021Improving_28_10_ddpm_100m   wrn28_10 87.50 63.38 12L8YE6VBgUDKyW6GMSNefSYj2gg4LEKx dm
Pang2022Robustness_WRN70_16          wrn70_16 89.01 63.35 1uQZYUuUiL9BzaQUeXLhjr_RhoyFRrHe3 dm
Rade2021Helper_extra                 wrn34_10 91.47 62.83 1GhAp-0C3ONRy9BxIe0J9vKc082vHvR7t dm
Gowal2020Uncovering_28_10_extra      wrn28_10 89.48 62.76 1MBAWGxiZxKt-GfqEqtLcXcd3tAxPhvV2 dm
Pang2022Robustness_WRN28_10          wrn28_10 88.61 61.04 16ChNkterCp17BXv-xxqpfedb4u2_CjjS dm
Rade2021Helper_ddpm                  wrn28_10 88.16 60.97 1AOF6LxnwgS5fCz_lVLYqs_wnUYuv6O7z dm
Rebuffi2021Fixing_28_10_cutmix_ddpm  wrn28_10 87.33 60.73 1-0EChXbc6pOvx26O17av263bCeqIAz6s dm
Sehwag2021Proxy                      wrn34_10 86.68 60.27 1QFA5fPMj2Qw4aYNG33PkFqiv_RTDWvzm none
Wu2020Adversarial_extra              wrn28_10 88.25 60.04 1-WJWpAZLlmc4gJ8XXNf7IETjnSZzaCNp none
Carmon2019Unlabeled                  wrn28_10 89.69 59.53 15tUx-gkZMYx7BfEOw1GY5OKC-jECIsPQ none
Gowal2021Improving_R18_ddpm_100m     preact18 87.35 58.50 1-0EuCJashqSXEkkd1DOzFA4tH8KL2kim dm
Chen2024Data_WRN_34_20               wrn34_20 86.10 58.09 1-IbKAGtp79tAEm59N0i8QMvMZ3nxSD2- none
Addepalli2021Towards_WRN34           wrn34_10 85.32 58.04 1-3vgjTNfSq7LSMKuayEQ-jLflAP196dB none
Addepalli2022Efficient_WRN_34_10     wrn34_10 88.71 57.81 1--dVDtZhAk4D2zMtTDwIGnImuCGxTcBA none
Rade2021Helper_R18_extra             preact18 89.02 57.67 1hdXk1rPJql2Oa84Kky64fMTQzng5UcTL dm
Jia2022LAS-AT_70_16                  wrn70_16 85.66 57.61 1-4p-Gr0hjl8wq6qvvTza4x4a5Rmu-Bfr none
Chen2024Data_WRN_34_10               wrn34_10 86.54 57.30 1-AzyMQaoUuwxec6O_Yri5OVtVqnNgR4R none
Sehwag2020Hydra                      wrn28_10 88.98 57.14 1pi8GHwAVkxVH41hEnf0IAJb_7y-Q8a2Y none
Gowal2020Uncovering_70_16            wrn70_16 85.29 57.14 1DVwKclibqzniE2Ss5_g6BY77ChG8QKzl dm
Rade2021Helper_R18_ddpm              preact18 86.86 57.09 1f2yJUo-jxCQNk589frzriv6wPyrQEZdX dm
Cui2023Decoupled_WRN-34-10           wrn34_10 85.31 57.09 1-ArD-TugRXUbH3VtM9qnzvby6NvdXNUN none
Gowal2020Uncovering_34_20            wrn34_20 85.64 56.82 1YWvZO1u9_yNLFNC3JYd_TVkvrRSMER1O dm
Rebuffi2021Fixing_R18_ddpm           preact18 83.53 56.66 1--dxE66AsgBSUsuK2sXCTrsYUV9B5f95 dm
Jia2022LAS-AT_34_10                  wrn34_10 84.98 56.26 1-3l7xKhIPyes3O4QSz0HU6L-hfOoS0xD none
Wu2020Adversarial                    wrn34_10 85.36 56.17 13LBcgNvhFppCFG22i1xATrahFPfMgXGf none
Sehwag2021Proxy_R18                  resnet18 84.59 55.54 1-ZgoSlD_AMhtXdnUElilxVXnzK2DcHuu none
Hendrycks2019Using                   wrn28_10 87.11 54.92 1-DcJsYw2dNEOyF9epks2QS7r9nqBDEsw half
Rice2020Overfitting                  wrn34_20 85.34 53.42 1vC_Twazji7lBjeMQvAD9uEQxi9Nx2oG- cifar
Addepalli2022Efficient_RN18          resnet18 85.71 52.48 1m5vhdzIUUKhDbsZdOG9z76Eyp6f4xe_f none
Addepalli2021Towards_RN18            resnet18 80.24 51.06 1-1DxecXz5U_xZ54DVdE-GVm71Tiox-Ri none
Andriushchenko2020Understanding      preact18 79.84 43.93 1Uyvprd98bIyxfMjLdCZwm-NEJ-6GMVis raw
Wong2020Fast                         preact18 83.34 43.21 1Re--_lf3jCEw9bnQqGkjw3J7v2tSZKrv raw+
"""

_CIFAR10_L2 = """
Wang2023Better_WRN-70-16             wrn70_16 95.54 84.97 101UyURyte05tJLA9VFRBN6UDLyn-0sJw dm
Wang2023Better_WRN-28-10             wrn28_10 95.16 83.68 1-fwKiJXEqHHUngt8wKsNnHuD4vAPvPXC dm
Rebuffi2021Fixing_70_16_cutmix_extra wrn70_16 95.74 82.32 1JX82BDVBNO-Ffa2J37EuB8C-aFCbz708 dm
Gowal2020Uncovering_extra            wrn70_16 94.74 80.53 1pkZDCpCBShpAnx92n8PUeNOY1fSiTi0s dm
Rebuffi2021Fixing_70_16_cutmix_ddpm  wrn70_16 92.41 80.42 1-8ECIOYF4JB0ywxJOmhkefnv4TW-KuXp dm
Rebuffi2021Fixing_28_10_cutmix_ddpm  wrn28_10 91.79 78.80 1-DUKcvfDzeWwt0NK7q2XvU-dIi8up8B0 dm
Sehwag2021Proxy                      wrn34_10 90.93 77.24 1UviikNzpltVFsgMuqQ8YhpmvGczGRS4S none
Rade2021Helper_R18_ddpm              preact18 90.57 76.15 1VWrStAYy5CrUR18sjcpq_LKLpeqgUaoQ dm
Rebuffi2021Fixing_R18_cutmix_ddpm    preact18 90.33 75.86 1-AlwHsXU28tCOJsf9RKAZxVzbinzzQU3 dm
Gowal2020Uncovering                  wrn70_16 90.90 74.50 1QL4SNvYydjIg1uI3VP9SyNt-2kTXRisG dm
Sehwag2021Proxy_R18                  resnet18 89.76 74.41 1zPjjZj9wujBNkAmHHHIikem6_aIjMhXG none
Wu2020Adversarial                    wrn34_10 88.51 73.66 1M5AZ0EZQt7d2AlTmsnqZcfx91-x7YEAV none
Rice2020Overfitting                  preact18 88.67 67.68 1jo-31utiYNBVzLM0NxUEWz0teo3Z0xa7 act+
"""

_CIFAR100_LINF = """
Wang2023Better_WRN-70-16             wrn70_16 75.22 42.66 1-yYcT73GP13c0y9HrgtpyB3NAfkGKgjY dm
Cui2023Decoupled_WRN-28-10           wrn28_10 73.85 39.18 15BwWdWbNfoarTEWWugicOVkTjh3nXH36 dm
Wang2023Better_WRN-28-10             wrn28_10 72.58 38.77 1-jOu3wKWyw0XnBCXDGR32xn8Bw9GTJgh dm
Gowal2020Uncovering_extra            wrn70_16 69.15 36.88 1LQBdwO2b391mg7VKcP6I0HIOpC6O83gn dm
Rebuffi2021Fixing_70_16_cutmix_ddpm  wrn70_16 63.56 34.64 1-GkVLo9QaRjCJl-by67xda1ySVhYxsLV dm
Pang2022Robustness_WRN70_16          wrn70_16 65.56 33.05 1F3kn8KIdBVls8QuTWc3BbB83htkQeVQD dm
Cui2023Decoupled_WRN-34-10_autoaug   wrn34_10 65.93 32.52 18hjcLa1V3JTNUOshafLvw1ncxL2gu50M none
Rebuffi2021Fixing_28_10_cutmix_ddpm  wrn28_10 62.41 32.06 1-P7cs82Tj6UVx7Coin3tVurVKYwXWA9p dm
Jia2022LAS-AT_34_20                  wrn34_20 67.31 31.91 1WhRq01Yl1v8O3skkrGUBuySlptidc5a6 none
Cui2023Decoupled_WRN-34-10           wrn34_10 65.76 31.91 1whziIioVu5SGI1fBKyc331IfG_1MgenN none
Addepalli2022Efficient_WRN_34_10     wrn34_10 68.75 31.85 1-3c-iniqNfiwGoGPHC3nSostnG6J9fDt none
Sehwag2021Proxy                      wrn34_10 65.93 31.15 1ejMNF2O4xkSdrjtZt2UXUeim-y9F7Req none
Chen2024Data_WRN_34_10               wrn34_10 64.32 31.13 1-N5a0Z9o-8-oIrF4_EaVFVOOPI5-D-H2 none
Pang2022Robustness_WRN28_10          wrn28_10 63.66 31.08 1VDDM_j5M4b6sZpt1Nnhkr8FER3kjE33M dm
Jia2022LAS-AT_34_10                  wrn34_10 64.89 30.77 1-338K2PUf5FTwk4cbUUeTNz247GrXaMG none
Addepalli2021Towards_WRN34           wrn34_10 65.73 30.35 1-9GAld_105-jWBLXL73btmfOCwAqvz7Y none
Gowal2020Uncovering                  wrn70_16 60.86 30.03 16I86x2Vv_HCRKROC86G4dQKgO3Po5mT3 dm
Rade2021Helper_R18_ddpm              preact18 61.50 28.88 1-qUvfOjq6x4I8mZynfGtzzCH_nvqS_VQ dm
Rebuffi2021Fixing_R18_ddpm           preact18 56.87 28.50 1-Qcph_EXw1SCYhDIl8cwqTQQy0sJKO8N dm
Hendrycks2019Using                   wrn28_10 59.23 28.42 1If3tppQsCe5dN8Vbo9ff0tjlKQTTrShd half
Addepalli2022Efficient_RN18          resnet18 65.45 27.67 1-2hnxC7lZOQDqQbum4yPbtRtTND86I5N none
Addepalli2021Towards_PARN18          preact18 62.02 27.14 1-FwVya1sDvdFXr0_ZBoXEJW9ukGC7hPK act
"""

_NONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_NORMALISED: dict[str, dict[str, Any]] = {
    "CIFAR-10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2471, 0.2435, 0.2616)},
    "CIFAR-100": {"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)},
}
# What no tensor shows: options, and the normalisation of pixels; None: as in `_NORMALISED`.
_HOW: dict[str, tuple[dict[str, str], dict[str, Any] | None]] = {
    "dm": ({"activation": "silu"}, None),  # DeepMind's networks
    "none": ({}, _NONE),
    "half": ({}, _HALF),
    "cifar": ({}, None),
    "raw": ({"shortcut": "raw"}, _NONE),
    "raw+": ({"shortcut": "raw"}, None),
    "act": ({"shortcut": "activated"}, _NONE),
    "act+": ({"shortcut": "activated"}, None),
}


def _read(table: str, data: str, threat: str, place: str) -> list[Known]:
    found = []
    for line in table.strip().splitlines():
        name, arch, clean, robust, drive, how = line.split()
        options, pixels = _HOW[how]
        known = Known(
            f"robustbench/{place}/{name}",
            arch.replace("wrn", "wide_resnet").replace("preact", "preact_resnet"),
            data,
            threat,
            on_drive(drive),
            clean=float(clean),
            robust=float(robust),
            choices={**options, **(pixels or _NORMALISED[data])},
        )
        found.append(known)
    return found


CIFAR = (
    *_read(_CIFAR10_LINF, "CIFAR-10", "Linf eps=8/255", "cifar10_linf"),
    *_read(_CIFAR10_L2, "CIFAR-10", "L2 eps=0.5", "cifar10_l2"),
    *_read(_CIFAR100_LINF, "CIFAR-100", "Linf eps=8/255", "cifar100_linf"),
)
