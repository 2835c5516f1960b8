"""Patches of an image without sources, for its noise: chosen, given by position, or drawn in DS9."""

from __future__ import annotations

import numpy as np

from halopy.errors import HaloInputError

__all__ = ["boxes_at", "emptiest_boxes", "region_pixels"]


def emptiest_boxes(image, size, n):
    """Return the pixels of the ``n`` boxes with the least peak over scatter, and so the fewest sources."""
    ny, nx = (length // size for length in image.shape)
    boxes = [image.data[j * size:(j + 1) * size, i * size:(i + 1) * size].ravel() for j in range(ny) for i in range(nx)]
    boxes = [b for b in boxes if np.isfinite(b).mean() > 0.9 and np.nanmin(b) < np.nanmedian(b)]
    peaks = []
    for b in boxes:
        median = np.nanmedian(b)
        # The scatter from the lower half is blind to sources, which are positive.
        scatter = np.sqrt(np.nanmean((b[b < median] - median) ** 2))
        peaks.append((np.nanmax(b) - median) / scatter)
    return [boxes[k] for k in np.argsort(peaks)[:n]]


def boxes_at(image, positions, size):
    """Return the pixels of boxes about sky positions."""
    x, y = np.atleast_1d(*image.wcs.world_to_pixel(positions))
    boxes = []
    for number, (a, b) in enumerate(zip(x, y, strict=True)):
        if not (np.isfinite(a) and np.isfinite(b) and 0 <= a < image.shape[1] and 0 <= b < image.shape[0]):
            raise HaloInputError(f"patch {number} lies outside the image", path=image.meta.get("path"),
                                 found=positions.ravel()[number].to_string("hmsdms"))
        i, j = (max(0, int(round(c - (size - 1) / 2))) for c in (a, b))
        boxes.append(image.data[j:j + size, i:i + size].ravel())
    return boxes


def region_pixels(path, image):
    """Return the pixels inside each region of a DS9 file."""
    from regions import Regions, SkyRegion

    try:
        regions = Regions.read(str(path), format="ds9")
    except Exception as error:  # the parser answers a bad file with many kinds of exception
        raise HaloInputError(f"cannot read this DS9 region file: {error}", path=path) from error
    patches = []
    for number, region in enumerate(regions):
        pixel_region = region.to_pixel(image.wcs) if isinstance(region, SkyRegion) else region
        try:
            values = pixel_region.to_mask().get_values(image.data)
        except NotImplementedError as error:
            raise HaloInputError(f"region {number} has no area", path=path, found=type(region).__name__) from error
        if values is None or values.size == 0:
            raise HaloInputError(f"region {number} lies outside the image", path=path)
        patches.append(values)
    return patches
