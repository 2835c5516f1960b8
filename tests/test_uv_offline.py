"""The list of telescopes that keeps astropy from the network, and what the user has made of it before."""

from __future__ import annotations

import pytest
from astropy.coordinates import EarthLocation

pytest.importorskip("pyuvdata", reason="the extra uv is not installed")

from halopy.uvshapelets.read import offline


def test_the_users_own_sites_are_used():
    with offline():
        own = EarthLocation._site_registry
    EarthLocation._site_registry, before = own, EarthLocation.__dict__.get("_site_registry")
    try:
        with offline():
            assert EarthLocation._site_registry is own
        assert EarthLocation._site_registry is own
    finally:
        EarthLocation._site_registry = before
