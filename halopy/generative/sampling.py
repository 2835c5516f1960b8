"""From noise to images: noise levels, and samplers named after what they do.

A sampler is a function of ``denoise(x, sigma)``, which returns the expected image of images ``(n, 1, ny, nx)`` with
noise ``sigma``, of a start with noise ``sigmas[0]``, and of falling levels that end with 0.
"""

from __future__ import annotations

import torch

__all__ = ["ancestral", "ddpm_levels", "heun", "karras_levels"]


def karras_levels(n, *, low, high, rho=7.0):
    """Return ``n`` noise levels from ``high`` to ``low``, closer at the end, and 0.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, equation 5.
    """
    ramp = torch.linspace(0, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1, dtype=torch.float64)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def ddpm_levels(n, *, steps=1000, first=1e-4, last=0.02):
    """Return ``n`` of the noise levels of a variance that grows linearly over ``steps``, and 0.

    With the share of the image ᾱ that is left after a step, noise over image is σ = sqrt((1 − ᾱ) / ᾱ), from 157 to
    0.01 with the numbers of the paper.

    References
    ----------
    Ho et al. 2020, arXiv:2006.11239, section 4 (β from 0.0001 to 0.02 in 1000 steps).
    """
    left = torch.cumprod(1 - torch.linspace(first, last, steps, dtype=torch.float64), dim=0)
    levels = ((1 - left) / left).sqrt()
    chosen = torch.linspace(steps - 1, 0, n, dtype=torch.float64).round().long()
    return torch.cat([levels[chosen], torch.zeros(1, dtype=torch.float64)])


def heun(denoise, x, sigmas):
    """Follow the probability flow with Heun's second-order steps: ``2 n - 1`` calls for n levels.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, algorithm 1.
    """
    for now, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        slope = (x - denoise(x, now)) / now
        ahead = x + (after - now) * slope
        if after > 0:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
            ahead = x + (after - now) * slope
        x = ahead
    return x


def ancestral(denoise, x, sigmas, *, generator=None):
    """Draw each level from its distribution given the one before: the sampler of denoising diffusion (DDPM).

    In the units of the image, the paper's posterior is a mean between the expected image and what is there, and noise.

    Parameters
    ----------
    denoise, x, sigmas
        As of every sampler here.
    generator : `torch.Generator`, optional
        Of the noise.

    References
    ----------
    Ho et al. 2020, arXiv:2006.11239, algorithm 2 and equations 6 and 7, with the posterior's variance.
    """
    for now, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        image, share = denoise(x, now), (after / now) ** 2
        x = image + share * (x - image)
        if after > 0:
            noise = torch.randn(x.shape, generator=generator).to(x)
            x = x + after * (1 - share) ** 0.5 * noise
    return x
