"""Turned, mirrored, shifted and brighter views of a batch of images."""

from __future__ import annotations

import torch

__all__ = ["augmented", "dihedral", "undihedral"]

SHIFT = 2
BRIGHTNESS = 0.1


def dihedral(images, view):
    """Return a view of images ``(..., n, n)``: turned ``view % 4`` times by 90 degrees, mirrored from 4 on."""
    images = torch.rot90(images, view % 4, (-2, -1)) if view % 4 else images
    return images.flip(-1) if view >= 4 else images


def undihedral(images, view):
    """Undo `dihedral`."""
    images = images.flip(-1) if view >= 4 else images
    return torch.rot90(images, -(view % 4), (-2, -1)) if view % 4 else images


def augmented(images):
    """Return one random view of each image ``(n, 1, size, size)``, with torch's generator.

    Each is turned, mirrored, moved by up to 2 pixels (zeros come in) and multiplied by 0.9 to 1.1;
    no pixel is interpolated.
    """
    n, _, size, _ = images.shape
    view = torch.randint(8, (n,))
    shift = torch.randint(2 * SHIFT + 1, (n, 2))
    factor = 1 + BRIGHTNESS * (2 * torch.rand(n) - 1)
    padded = torch.nn.functional.pad(images, (SHIFT,) * 4)
    result = torch.empty_like(images)
    for i, (k, (y, x)) in enumerate(zip(view.tolist(), shift.tolist(), strict=True)):
        result[i] = dihedral(padded[i, :, y:y + size, x:x + size], k)
    return result * factor.to(images.device)[:, None, None, None]
