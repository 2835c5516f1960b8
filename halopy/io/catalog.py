"""Targets: tables of users, the 46 of arXiv 2411.15559, catalogues of clusters, and which share a piece of sky."""

from __future__ import annotations

from importlib import resources

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from halopy.errors import HaloInputError
from halopy.io.target_columns import degrees_of, position_names, targets_of
from halopy.io.target_files import read_table

__all__ = ["load_catalog", "load_targets", "read_targets", "sky_groups"]

_CATALOGS = {  # table at VizieR, how a name begins, redshift, mass and its unit, the paper
    "psz2": ("J/A+A/594/A27/psz2", "PSZ2 ", "z", "MSZ", 1e14 * u.Msun,
             "Planck Collaboration XXVII 2016, arXiv:1502.01598"),
    "mcxc-ii": ("J/A+A/688/A187/mcxcii", "MCXC ", "z", "M500", 1e14 * u.Msun,
                "Sadibekova et al. 2024, arXiv:2402.01538"),
    "erass1": ("J/A+A/685/A106/emain", "1eRASS ", "zBest", "M500", 1e13 * u.Msun,
               "Bulbul et al. 2024, arXiv:2402.08452"),
}
_NOWHERE = "no position"


def read_targets(path_or_table):
    """Read a table of sky positions to look at.

    Parameters
    ----------
    path_or_table : str, path-like or `~astropy.table.Table`
        CSV (also with tabs, semicolons, bars or blanks between the cells), ECSV, VOTable or FITS,
        plain or gzip or bzip2; told apart by their content. Nothing is fetched from a network.

        Needed: a column ``position`` (SkyCoord), or right ascension and declination, or Galactic
        longitude and latitude. A column is found by its UCD where that calls it the main one
        (``pos.eq.ra;meta.main``), else by one of its usual names (``ra``, ``RA_deg``, ``RAJ2000``,
        ``_RAJ2000``, ``dec``, ``DEJ2000``, ``GLON`` ...; J2000 is taken as ICRS), else by a UCD
        that no other column has, else by its unit, where one column has hours and one other
        degrees. Numbers are degrees unless the column has another unit; ``12 34 56.7``,
        ``12:34:56`` and ``12h34m56s`` are hours in right ascension. A name is made from the
        position where there is no column ``name``, ``target``, ``cluster``, ``id`` ...

    Returns
    -------
    `~astropy.table.QTable`
        ``name`` (text), ``position`` (SkyCoord, ICRS), ``redshift`` (from ``z``, ``redshift``,
        ``BEST_Z``; NaN where it is -1 or less) and ``m500`` (1e14 solar masses, from ``M500`` or
        ``MSZ``; a number without unit up to 50 is one already, one above 1e10 is in solar masses;
        NaN where it is 0) where they are given, and every other column as it is. One row per row
        of the table: an empty or NaN coordinate makes both NaN, and a target without a position.

    Raises
    ------
    HaloInputError
        Names the columns that were found, or the row (from 1) and the value that is wrong: text
        that is no angle, or an angle that is none of the sky; a mass whose unit is none of mass, or
        that is too large to be in 1e14 solar masses and has no unit.

    Warns
    -----
    HalopyWarning
        Once a table, with the row and the value, where a coordinate is missing.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from halopy.io.catalog import read_targets
    >>> targets = read_targets(Table({"Cluster": ["A2744", "Bullet"], "RA": ["00 14 19", "06:58:29"],
    ...                               "DE": ["-30 23 19", "-55:56:48"], "z": [0.306, 0.296]}))
    >>> targets.colnames
    ['name', 'position', 'redshift']
    >>> targets["position"].ra.deg.round(3)
    array([  3.579, 104.621])
    """
    if isinstance(path_or_table, Table):
        return targets_of(path_or_table, None)
    return targets_of(*read_table(path_or_table))


def load_targets():
    """Return the 46 targets of arXiv 2411.15559, with where each value comes from and who disagrees.

    Returns
    -------
    `~astropy.table.QTable`
        A row a target, the paper's 23 with a halo first, in the order of its list:

        - ``name``, ``position`` (centre of the public image), ``redshift`` (NaN: none known),
          ``m500``, ``m500_err_up``, ``m500_err_lo`` (1e14 solar masses; NaN: not in PSZ2),
          ``psz2_name``;
        - ``paper_class``: the paper's word; ``label``, ``also``, ``grade``: the same in the terms
          of `halopy.labels.classify`, ``also`` with the relics that other papers see;
          ``is_cluster``: False for the five odd radio circles and four radio galaxies;
        - ``conflict``: what contradicts the label or the use of the row, empty where nothing is
          known to;
        - ``group``: its piece of sky, `sky_groups`;
        - ``in_talk``, ``talk_number``: whether it is one of the 23, and its number there, 0 for
          the others; ``paper``, ``paper_version``: what the list cites for it (arXiv);
          ``repository_split``: its folder in the public repository; ``data_source``;
        - ``position_source``, ``redshift_source``, ``m500_source``, ``label_source``, ``note``;
        - ``from_memory``: the columns of this row whose values nobody has looked up, with commas.

    References
    ----------
    Mishra et al. 2024, arXiv:2411.15559; Planck Collaboration XXVII 2016, arXiv:1502.01598.

    Examples
    --------
    >>> from halopy.io.catalog import load_targets
    >>> targets = load_targets()
    >>> len(targets), int(targets["in_talk"].sum()), int((~targets["is_cluster"]).sum())
    (46, 23, 9)
    >>> print(targets["conflict"][targets["name"] == "Abell 0122"][0])
    a candidate dead radio galaxy in arXiv:1707.03517v1
    """
    with resources.as_file(resources.files("halopy") / "data" / "clusters.ecsv") as path:
        table = QTable.read(path, format="ascii.ecsv")
    position = SkyCoord(table["ra"], table["dec"])
    table.remove_columns(["ra", "dec"])
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            table[name] = np.ma.filled(np.ma.asarray(table[name]), "")
    table.add_column(position, index=1, name="position")
    table["group"] = sky_groups(position)
    return table


def load_catalog(name, *, cache=None):
    """Fetch a catalogue of clusters from VizieR.

    Parameters
    ----------
    name : str
        ``"psz2"`` (1653 sources of Planck's Sunyaev-Zeldovich effect), ``"mcxc-ii"`` (2221 clusters
        of ROSAT) or ``"erass1"`` (12247 clusters of eROSITA, western Galactic half).
    cache : path-like, optional
        Folder for the tables; None (default): the cache of `halopy.io.archive`.

    Returns
    -------
    `~astropy.table.QTable`
        As of `read_targets`: ``name`` (with ``PSZ2``, ``MCXC`` or ``1eRASS`` before it),
        ``position``, ``redshift``, ``m500``, and the catalogue's other columns; ``meta`` says
        ``catalog``, ``vizier``, ``reference``, and which file came when (``url``, ``sha256``,
        ``retrieved``). The masses are not on one scale: those of PSZ2 are of the effect, those of
        MCXC-II of the X-ray luminosity, those of eRASS1 of the count rate, calibrated by weak lensing.

    Raises
    ------
    HaloInputError
        For another name, or a table that lacks one of the columns.
    ProviderError
        Where VizieR gives no table.

    References
    ----------
    Planck Collaboration XXVII 2016, A&A 594, A27 (arXiv:1502.01598); Sadibekova et al. 2024, A&A
    688, A187 (arXiv:2402.01538); Bulbul et al. 2024, A&A 685, A106 (arXiv:2402.08452).
    """
    known = _known(name)
    from halopy.io.archive import fetch_catalog

    vizier, prefix, redshift, mass, unit, reference = _CATALOGS[known]
    # Not all that is needed need be among the columns that VizieR shows unasked.
    table = fetch_catalog(vizier, columns=["*", redshift, mass], cache=cache)
    if mass in table.colnames and getattr(table[mass], "unit", None) in (None, u.dimensionless_unscaled):
        table = QTable(table, copy=True)
        table[mass] = table[mass] * unit
    targets = targets_of(table, None)
    missing = [c for c in ("redshift", "m500") if c not in targets.colnames]
    if missing:
        raise HaloInputError(f"{vizier} has no column for {' and '.join(missing)}", found=table.colnames)
    targets["name"] = [n if n.startswith(prefix) else prefix + n for n in targets["name"]]
    targets.meta.update({k: table.meta[k] for k in ("url", "sha256", "retrieved") if k in table.meta},
                        catalog=known, vizier=vizier, reference=reference)
    return targets


def sky_groups(positions, radius=1.5 * u.deg):
    """Return which positions share a piece of sky: friends, and friends of friends.

    Two positions belong to one group where they are no further apart than ``radius``, or where a
    chain of others with such steps leads from one to the other. Images of one group can show the
    same sky, whatever their names say; a split between groups (`CutoutSet.split
    <halopy.CutoutSet.split>`) keeps the test set out of the training.

    Parameters
    ----------
    positions : `~astropy.coordinates.SkyCoord`
        ``(n,)``; distances have no say. Those that are NaN or masked make one group of their own,
        ``no position``: they may all be the same.
    radius : `~astropy.units.Quantity`, optional
        Angle up to which two are friends, default 1.5°. Cutouts of a side s overlap up to √2 s;
        the public 72-103 MHz images' inner 64 pixels are 1.0° wide.

    Returns
    -------
    `~numpy.ndarray`
        ``(n,)`` text: a group is named after the position (``JHHMMSS-DDMMSS``, ICRS) of its
        southernmost member, the one of lower right ascension of two. It depends on the members
        only, not on their order; below 16″ the name has more digits.

    Raises
    ------
    HaloInputError
        Where positions are no one-dimensional SkyCoord, or the radius no angle above 0.

    References
    ----------
    Friends of friends: Huchra & Geller 1982, ApJ 257, 423 (doi:10.1086/160000).

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy.io.catalog import sky_groups
    >>> sky_groups(SkyCoord([3.583, 4.058, 16.405], [-30.388, -31.389, -24.681], unit="deg"))
    array(['J001614-312320', 'J001614-312320', 'J010537-244052'], dtype='<U14')
    """
    if not isinstance(positions, SkyCoord) or positions.ndim != 1:
        raise HaloInputError("sky_groups needs a SkyCoord of shape (n,)",
                             found=getattr(positions, "shape", type(positions).__name__))
    if not isinstance(radius, u.Quantity) or not radius.isscalar or not radius.unit.is_equivalent(u.deg) \
            or not 1e-3 * u.arcsec < radius < np.inf * u.deg:
        raise HaloInputError("the radius of a group must be an angle of more than a milliarcsecond", found=radius,
                             hint="radius=1.5 * u.deg")
    ra, dec = degrees_of(positions)
    groups = np.full(len(ra), _NOWHERE, dtype=object)
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if known.size == 0:
        return groups.astype(str)
    known = known[np.lexsort((ra[known], dec[known]))]
    sky = SkyCoord(ra[known], dec[known], unit="deg")
    number = _components(sky.cartesian.xyz.value.T, 2 * np.sin(min(radius.to_value(u.rad), np.pi) / 2))
    _, first, member = np.unique(number, return_index=True, return_inverse=True)
    # Two groups are more than a radius apart, and the name's steps (15 arcsec) must be finer.
    precision = max(0, int(np.ceil(np.log10(16 / radius.to_value(u.arcsec)))))
    groups[known] = position_names(sky[first], precision=precision)[member]
    return groups.astype(str)


def _known(name):
    """Return the key of a catalogue's name, or say which there are."""
    known = str(name).lower().replace("_", "-").replace(" ", "")
    if known not in _CATALOGS:
        raise HaloInputError(f"a catalogue is one of {', '.join(_CATALOGS)}", found=name)
    return known


def _components(xyz, chord):
    """Return the number of the group of each of ``(n, 3)`` unit vectors; friends have a chord up to ``chord``."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    # Thousands of cutouts of one image would have millions of pairs: all in a cell of this size are
    # friends, so that one of them stands for the others, and pairs are of cells.
    cells = np.floor(xyz * (1.001 * np.sqrt(3) / chord)).astype(np.int64)
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    cell = cell.ravel()
    order = np.argsort(cell, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(cell))[:-1])

    def grouped(pairs):
        graph = coo_matrix((np.ones(len(pairs), dtype=bool), pairs.T), shape=(len(first), len(first)))
        return connected_components(graph, directed=False)[1]

    tree = cKDTree(xyz[first])
    pairs = tree.query_pairs(chord, output_type="ndarray")
    number = grouped(pairs)
    # Cells whose representatives are too far apart may have members that are not.
    near = tree.query_pairs(3 * chord, output_type="ndarray")
    many = np.bincount(cell) > 1
    near = near[(number[near[:, 0]] != number[near[:, 1]]) & many[near].any(axis=1)]
    touching = [(a, b) for a, b in near
                if cKDTree(xyz[members[a]]).query(xyz[members[b]])[0].min() <= chord]
    if touching:
        number = grouped(np.concatenate([pairs, np.array(touching)]))
    return number[cell]
