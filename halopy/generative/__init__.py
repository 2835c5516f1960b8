"""Generators of halo images, found through `halopy.generators`; the contract is `HaloGenerator`."""

from halopy.generative.base import HaloGenerator

__all__ = ["HaloGenerator"]
