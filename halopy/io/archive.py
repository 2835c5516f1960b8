"""Fetch the image of a survey at a position, from any of several archives."""

from __future__ import annotations

import datetime
import hashlib
import textwrap
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from halopy import survey as presets
from halopy.errors import HaloInputError, HalopyWarning, ProviderError
from halopy.io.cache import Cache, is_offline, safe_name, sha256_of
from halopy.io.fits import read_image
from halopy.io.provider import Provider
from halopy.io.transfer import Transfer
from halopy.io.vizier import fetch_catalog
from halopy.io.votable import ONE_READER
from halopy.registry import Registry

__all__ = ["covers", "fetch", "fetch_catalog", "providers"]

providers = Registry("halopy.archives", base="halopy.io.provider:Provider", what="archive")
"""The installed archives, classes by name; ``providers.create`` makes one with its settings."""


def fetch(position, *, survey="gleam-170-231", size=2 * u.deg, provider=None, cache=None, offline=None, refresh=False,
          name=None, transfer=None):
    """Fetch the image of a survey at a position.

    Nothing is fetched twice: what has come, and has opened as an image that shows the position, is kept in a cache.
    Failures are not kept.

    Parameters
    ----------
    position : `~astropy.coordinates.SkyCoord`
        One position.
    survey : str or Survey, optional
        Default ``"gleam-170-231"``. It fills the beam, the unit and the frequency where the file lacks them.
    size : `~astropy.units.Quantity`, optional
        Side of the field, an angle; default 2 degrees.
    provider : str or Provider, optional
        Default: the first of the survey's ``archives`` that is installed. halopy does not change over to another
        one by itself: the same sky from another archive has other pixels and other noise.
    cache : path-like or Cache, optional
        Default: see `halopy.io.cache.Cache`.
    offline : bool, optional
        True: take it from the cache, or fail. Default: what the environment variable ``HALOPY_OFFLINE`` says.
    refresh : bool, optional
        Fetch it again, default False.
    name : str, optional
        Of the image; default: made from the position.
    transfer : Transfer, optional
        Time-outs, retries and how many requests at a time.

    Returns
    -------
    ClusterImage
        Its ``meta`` also holds ``provider``, ``url``, ``sha256`` (of the file as it came) and ``retrieved``.

    Raises
    ------
    ProviderError
        Whatever went wrong on the network, at the archive or with its reply; ``cause`` says it in one word.
    HaloInputError
        The position, the size or the survey cannot be asked for.

    Examples
    --------
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy.io.archive import fetch
    >>> image = fetch(SkyCoord(3.58, -30.39, unit="deg"))  # doctest: +SKIP
    """
    position, survey, size = _position(position), _survey(survey), _size(size)
    provider = _provider(provider, survey)
    transfer = Transfer() if transfer is None else transfer
    name = f"J{_stem(position)}" if name is None else str(name)
    if not provider.online:
        location = _asked(provider, lambda: provider.locate(position, survey, size, transfer=transfer))
        path = Path(location.address)
        digest = sha256_of(path)
        if location.sha256 not in (None, digest):
            raise ProviderError(f"{path} has changed: its sha256 is {digest}, not {location.sha256}", cause="sha256",
                                provider=provider.name, hint="the original file, or remove its line from the record")
        with ONE_READER:
            image = read_image(path, survey=survey, plane=location.plane, name=name)
        image = _cut(image, position, size)
        _asked(provider, lambda: _check_image(image, position))
        return _with_source(image, provider.name, str(path), digest, None)
    if not provider.holds(survey):
        provider.survey_name(survey)  # which says what it lacks
    cache = cache if isinstance(cache, Cache) else Cache(cache)
    key = _key(provider, position, survey, size)
    entry = None if refresh else cache.find(provider.name, key)
    if entry is None:
        if is_offline(offline):
            raise ProviderError(f"{survey.name} at {_stem(position)} is not in the cache, and halopy is offline",
                                cause="offline", provider=provider.name, hint="unset HALOPY_OFFLINE, or offline=False")
        with cache.lock(provider.name, key):
            # Another process may have fetched it while this one waited for the lock.
            entry = None if refresh else cache.find(provider.name, key)
            if entry is None:
                entry = cache.add(provider.name, key, lambda path: _asked(
                    provider, lambda: _download(provider, position, survey, size, transfer, path)))
    path, record = entry
    with ONE_READER:
        image = read_image(path, survey=survey, plane=record["plane"], name=name)
    for text in image.meta["repairs"]:
        if text.startswith("frequency") and "replaced" in text:
            # Headers of cutouts are often those of a template; but it may be another band.
            warnings.warn(f"{provider.name}, {name}: {text}; is it the band that was asked for?", HalopyWarning,
                          stacklevel=2)
    return _with_source(image, provider.name, record["url"], record["sha256"], record["retrieved"])


def covers(position, *, survey="gleam-170-231", provider=None):
    """Say, without the network, which archives have an image of a position.

    Parameters
    ----------
    position : `~astropy.coordinates.SkyCoord`
        One position.
    survey : str or Survey, optional
        Default ``"gleam-170-231"``.
    provider : str or Provider, optional
        Default: every installed archive that has the survey.

    Returns
    -------
    dict
        Name of the archive: True, False, or None where only the archive itself knows.

    Examples
    --------
    >>> from astropy.coordinates import SkyCoord
    >>> from halopy.io.archive import covers
    >>> covers(SkyCoord(3.58, -30.39, unit="deg"))
    {'skyview': True, 'hips2fits': True, 'gleam-vo': True}
    >>> covers(SkyCoord(194.95, 27.98, unit="deg"), survey="sumss")
    {'skyview': False}
    """
    position, survey = _position(position), _survey(survey)
    if provider is not None:
        chosen = [_provider(provider, survey)]
    else:
        chosen = [providers[name]() for name in survey.archives if name in providers]
    return {found.name: found.covers(position, survey) for found in chosen}


def _download(provider, position, survey, size, transfer, path):
    location = provider.locate(position, survey, size, transfer=transfer)
    if not isinstance(location.address, str):
        raise ProviderError(f"a provider that is online must name a URL, not {location.address!r}", cause="format")

    def check(file):
        # A name of the read file's own: that of the temporary file tells a user nothing.
        with ONE_READER, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_image(read_image(file, survey=survey, plane=location.plane), position)

    receipt = transfer.save(location.address, path, sha256=location.sha256, check=check)
    return {"url": receipt.url, "sha256": receipt.sha256, "plane": location.plane, "provider": provider.name,
            "survey": survey.name, "position": position.to_string("decimal", precision=6),
            "size_deg": round(size.to_value(u.deg), 6),
            "retrieved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def _check_image(image, position):
    """Refuse an image in which there is nothing, or that shows another part of the sky."""
    finite = image.data[image.valid]
    if finite.size == 0 or finite.min() == finite.max():
        what = "no pixel with data" if finite.size == 0 else f"the value {finite[0]:g} everywhere"
        raise ProviderError(f"the image has {what}: the survey has not looked there", cause="outside")
    try:
        x, y = (float(v) for v in image.wcs.world_to_pixel(position))
    except Exception as error:  # positions that cannot be projected answer in several ways
        raise HaloInputError(f"the image does not show the position: {type(error).__name__}") from error
    if not (-1 <= x <= image.shape[1] and -1 <= y <= image.shape[0]):
        raise ProviderError("the image that came shows another part of the sky", cause="format")


def _asked(provider, ask):
    """Every failure of a provider bears its name."""
    try:
        return ask()
    except ProviderError as error:
        error.provider = error.provider or provider.name
        raise


def _cut(image, position, size):
    """The field of the wanted size about a position, as far as the image reaches."""
    count = max(1, round((size / image.pixel_scale).to_value(u.one)))
    x, y = (float(v) for v in image.wcs.world_to_pixel(position))
    starts = (round(centre - (count - 1) / 2) for centre in (y, x))
    return image[tuple(slice(max(0, start), min(n, start + count))
                       for start, n in zip(starts, image.shape, strict=True))]


def _with_source(image, provider, url, digest, retrieved):
    known = {"provider": provider, "url": url, "sha256": digest, "retrieved": retrieved}
    text = " ".join(str(value) for value in ("fetched from", provider, url, "sha256", digest, retrieved) if value)
    text = "".join(c if " " <= c <= "~" else "?" for c in text)
    # The header that is written with the image tells where it came from.
    lines = [f"HISTORY {line}" for line in textwrap.wrap(text, 70)]
    header = "\n".join([image.meta.get("header", ""), *lines])
    return image.replace(meta={**image.meta, **{k: v for k, v in known.items() if v is not None}, "header": header})


def _key(provider, position, survey, size):
    settings = {k: v for k, v in provider.params.items() if isinstance(v, (str, int, float, bool, type(None)))}
    text = repr((sorted(settings.items()), dict(survey.archives).get(provider.name), survey.name,
                 round(survey.pixel_scale.to_value(u.arcsec), 4),
                 position.to_string("decimal", precision=6), round(size.to_value(u.arcsec), 2)))
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{safe_name(survey.name)}_{_stem(position)}_{size.to_value(u.arcmin):.4g}arcmin_{digest}"


def _stem(position):
    ra = position.ra.to_string("hourangle", sep="", pad=True, precision=0)
    return ra + position.dec.to_string("deg", sep="", pad=True, alwayssign=True, precision=0)


def _position(position):
    if not isinstance(position, SkyCoord) or not position.isscalar:
        raise HaloInputError("position must be one SkyCoord", found=repr(position)[:80],
                             hint="SkyCoord(3.58, -30.39, unit='deg')")
    position = position.icrs
    if not (np.isfinite(position.ra.deg) and np.isfinite(position.dec.deg)):
        raise HaloInputError("the position is unknown (NaN)", keyword="position")
    return SkyCoord(position.ra, position.dec)


def _size(size):
    if not isinstance(size, u.Quantity) or not size.isscalar or size.unit.physical_type != "angle":
        raise HaloInputError("size must be an angle", found=repr(size), hint="size=2 * u.deg")
    if not 0 < size.to_value(u.deg) <= 60:
        raise HaloInputError("size must lie between 0 and 60 degrees", found=str(size))
    return size.to(u.deg)


def _survey(survey):
    survey = presets.surveys[survey] if isinstance(survey, str) else survey
    if not isinstance(survey, presets.Survey):
        raise HaloInputError("survey must be a name or a halopy.survey.Survey", found=repr(survey))
    return survey


def _provider(provider, survey):
    if isinstance(provider, str):
        return providers.create(provider)
    if provider is None:
        for name in survey.archives:
            if name in providers:
                return providers.create(name)
        raise HaloInputError(f"halopy knows no archive of images of {survey.name}",
                             hint="providers.create('folder', path=...) with files of your own")
    if not isinstance(provider, Provider):
        raise HaloInputError("provider must be a name or a Provider", found=repr(provider)[:80],
                             hint=f"one of {', '.join(providers)}")
    return provider
