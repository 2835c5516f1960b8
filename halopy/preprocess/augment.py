"""Augmentation: turned, mirrored, brighter and larger copies of cutouts, from real sky only."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.cutouts import CutoutSet
from halopy.errors import HaloInputError
from halopy.model import Step
from halopy.preprocess.threads import in_threads

__all__ = ["Augmenter"]

ORIENTATIONS = {1: (0,), 4: (0, 2, 4, 6), 8: (0, 2, 4, 6, 8, 10, 12, 14), 16: tuple(range(16))}


class Augmenter(Step):
    """Make turned, mirrored and brighter copies of cutouts.

    Each member of the augmented set has one of 16 orientations and one brightness factor.
    Orientation k turns the cutout by (k mod 8) · 45 degrees counter-clockwise (y up); from 8 on,
    left and right are exchanged before. Right angles and mirrors move pixels and change none; the
    odd multiples of 45 degrees share one cubic interpolation of the original (one a zoom).

    Corners show the real surroundings: nothing is filled, so the given cutouts must be larger than
    ``size`` by the square root of two (and by 1 / zoom). For 64 pixels cut 96.

    Parameters
    ----------
    orientations : int, optional
        16 (default), 8 (right angles and mirrors: nothing is interpolated), 4 (right angles) or 1.
    brightness : int, optional
        How many random factors multiply each cutout, default 10; with 16 orientations this is the 160-fold
        set of arXiv:2411.15559. None: brightness stays.
    brightness_range : tuple of float, optional
        Factors are drawn uniformly from this range, default (0.9, 1.3).
    zoom : tuple of float, optional
        Draw also a geometric magnification uniformly from this range. Default None: off; surface
        brightness is kept, sizes change, and with them what a beam looks like.
    draw : int, optional
        Instead of all combinations, make so many random members a cutout; no orientation comes
        twice before all have come once.
    size : int, optional
        Pixels of the square output, default 64; even for cutouts of even shape, odd for odd, so
        that the centre stays the centre.

    Notes
    -----
    Augment after splitting, never before. A scaling by each cutout's own range (`LogMinMax`) undoes
    the brightness factors, before or after; `SnrAsinh` divides by the column ``rms``, which follows the factors, and
    undoes them as well when it comes after. Scaled with `SnrAsinh` first, the factors act on the scaled pixels.

    What moves and interpolates pixels is compiled at the first call; cutouts are shared out among the threads that
    ``NUMBA_NUM_THREADS`` allows, and the result does not depend on how many there are.

    References
    ----------
    Mishra et al. 2024, arXiv:2411.15559.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from halopy import Augmenter, CutoutSet
    >>> cutouts = CutoutSet(np.ones((2, 96, 96)), QTable({"label": ["halo", "none"], "group": ["A2744", "A13"]}))
    >>> many = Augmenter()(cutouts, rng=1)
    >>> many
    <CutoutSet 320 x (64, 64), columns label group orientation brightness zoom augmented_from>
    >>> few = Augmenter(draw=3)(cutouts, rng=1)
    >>> few.table["group"].tolist()
    ['A2744', 'A2744', 'A2744', 'A13', 'A13', 'A13']
    """

    def __init__(self, *, orientations=16, brightness=10, brightness_range=(0.9, 1.3), zoom=None, draw=None, size=64):
        self.orientations = orientations
        self.brightness = brightness
        self.brightness_range = brightness_range
        self.zoom = zoom
        self.draw = draw
        self.size = size

    def __call__(self, cutouts, *, rng=None):
        """Return the augmented set.

        Parameters
        ----------
        cutouts : CutoutSet
            ``(n, ny, nx)``, larger than ``size``.
        rng : int or `~numpy.random.Generator`, optional
            Seed or generator.

        Returns
        -------
        CutoutSet
            ``(n * members, size, size)``, the members of a cutout one after the other. Rows of the
            table are repeated, with new columns ``orientation``, ``brightness``, ``zoom`` and
            ``augmented_from`` (the row of the original). ``rms`` is multiplied by the brightness,
            ``beam_pa`` follows the orientation and ``pixel_scale`` the zoom, ``coverage`` is
            counted again; ``x0``, ``y0``, ``image`` and the WCS are dropped.

        Raises
        ------
        HaloInputError
            A setting cannot be used, or the cutouts are too small.
        """
        rng = np.random.default_rng(rng)
        if not isinstance(cutouts, CutoutSet):
            raise HaloInputError("an Augmenter takes a CutoutSet", found=type(cutouts).__name__)
        self._require(cutouts)
        orientation, brightness, zoom = self._draw(len(cutouts), rng)
        n, members = orientation.shape
        data = np.empty((n * members, self.size, self.size), dtype=np.float32)
        coverage = np.empty(n * members)

        def work(i):
            rows = slice(i * members, (i + 1) * members)
            coverage[rows] = _augment(cutouts.data[i], orientation[i], brightness[i], zoom[i], data[rows])

        in_threads(work, range(n))
        table = _table(cutouts.table, n, orientation.ravel(), brightness.ravel(), zoom.ravel())
        if "coverage" in table.colnames:
            table["coverage"] = coverage
        meta = {key: value for key, value in cutouts.meta.items() if key != "wcs"}
        return CutoutSet(data, table, unit=cutouts.unit, meta=meta)

    def _draw(self, n, rng):
        """Return orientation, brightness and zoom, each ``(n, members)``."""
        allowed = np.array(ORIENTATIONS[self.orientations])
        low, high = self.brightness_range
        if self.draw is not None:
            rounds = -(-self.draw // len(allowed))
            orientation = np.concatenate(
                [rng.permuted(np.tile(allowed, (n, 1)), axis=1) for _ in range(rounds)], axis=1)[:, :self.draw]
            shape = repeat = (n, self.draw)
        else:
            copies = 1 if self.brightness is None else self.brightness
            orientation = np.tile(np.repeat(allowed, copies), (n, 1))
            # The same factors for every orientation: the set is a product of both.
            shape, repeat = (n, 1, copies), (n, len(allowed), copies)
        brightness = np.ones(shape) if self.brightness is None else rng.uniform(low, high, shape)
        zoom = np.ones(shape) if self.zoom is None else rng.uniform(*self.zoom, shape)
        return orientation, *(np.broadcast_to(x, repeat).reshape(orientation.shape) for x in (brightness, zoom))

    def _require(self, cutouts):
        if self.orientations not in ORIENTATIONS:
            raise HaloInputError("orientations must be 1, 4, 8 or 16", found=self.orientations)
        for name in ("brightness", "draw"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, np.integer)) and value > 0):
                raise HaloInputError(f"{name} must be a positive whole number, or None", found=value)
        for name in ("brightness_range", "zoom"):
            value = getattr(self, name)
            if value is not None and not (len(value) == 2 and 0 < value[0] <= value[1] < np.inf):
                raise HaloInputError(f"{name} must be two positive numbers, the lower first", found=value)
        if not (isinstance(self.size, (int, np.integer)) and self.size > 0):
            raise HaloInputError("size must be a positive whole number", found=self.size)
        shape = cutouts.data.shape[1:]
        reach = (np.sqrt(2) if self.orientations == 16 else 1) / min(1, 1 if self.zoom is None else self.zoom[0])
        needed = int(np.ceil((self.size - 1) * reach - 1e-6)) + 1
        needed += (needed - self.size) % 2
        if min(shape) < needed:
            suggestion = needed if needed % 2 else 16 * -(-needed // 16)
            raise HaloInputError(f"augmented cutouts of {self.size} pixels need cutouts of {needed} or more, so that "
                                 "corners show real sky", found=shape, hint=f"CutoutMaker({suggestion})")
        if any((n - self.size) % 2 for n in shape):
            raise HaloInputError(f"cutouts and size must both be even or both be odd, size is {self.size}", found=shape,
                                 hint=f"CutoutMaker({max(needed, min(shape) + 1)})")


def _augment(plane, orientation, brightness, zoom, data):
    """Write the members of one cutout; return the fraction of each that holds data."""
    from halopy.preprocess.turn import orient, turned_views

    size, tilted = data.shape[1], orientation % 2 == 1
    # Members of one zoom that are tilted, or not, are one view in eight orientations. Tilted ones get a sign here;
    # the one that is only copied comes first.
    kinds, view = np.unique(np.where(tilted, -zoom, np.where(zoom == 1, -np.inf, zoom)), return_inverse=True)
    views = np.empty((len(kinds), 2, size, size), np.float32)
    valid = np.empty(len(kinds), int)
    copied = int(kinds[0] == -np.inf)
    if copied:
        y, x = ((n - size) // 2 for n in plane.shape)
        views[0, 0] = plane[y:y + size, x:x + size]
        views[0, 1] = views[0, 0].T
        valid[0] = np.isfinite(views[0, 0]).sum()
    if len(kinds) > copied:
        valid[copied:] = turned_views(plane, np.abs(kinds[copied:]), kinds[copied:] < 0, views[copied:])
    turns, mirrored = orientation % 8 // 2, orientation >= 8
    # A view already turned by +45 degrees becomes one by -45 when it is mirrored.
    turns = (turns + (mirrored & tilted)) % 4
    # Right angles, counter-clockwise with y up, and mirrors: transposed, with rows and columns reversed.
    rows, columns = (turns + mirrored) % 4 >= 2, (turns + 1 + mirrored) % 4 >= 2
    orient(views, view, turns % 2, rows, columns, brightness.astype(np.float32), data)
    return valid[view] / size**2


def _table(table, n, orientation, brightness, zoom):
    rows = np.repeat(np.arange(n), len(orientation) // n if n else 1)
    table = table[rows] if table.colnames else QTable()
    table.remove_columns([name for name in ("x0", "y0", "image") if name in table.colnames])
    if "rms" in table.colnames:
        table["rms"] = table["rms"] * brightness
    if "pixel_scale" in table.colnames:
        table["pixel_scale"] = table["pixel_scale"] / zoom
    if "beam_pa" in table.colnames and isinstance(table["beam_pa"], u.Quantity):
        # Counter-clockwise is from north through east where east is left; a beam looks the same after half a turn.
        sign = np.where(orientation >= 8, -1, 1)
        table["beam_pa"] = (table["beam_pa"] * sign + orientation % 8 * 45 * u.deg) % (180 * u.deg)
    table["orientation"], table["brightness"], table["zoom"] = orientation, brightness, zoom
    table["augmented_from"] = rows
    return table
