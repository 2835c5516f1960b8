from __future__ import annotations

import pickle

import pytest

from halopy import errors
from halopy.errors import HaloInputError, OutsideImageError, UnknownModelError


def test_the_message_says_where_what_and_what_to_try():
    error = HaloInputError("the beam must be positive", path="a b.fits", hdu=2, keyword="BMAJ", found=-1.0,
                           hint="beam=")
    assert str(error) == "a b.fits: the beam must be positive (HDU 2, BMAJ, found -1.0); try: beam="


def test_a_bare_message_stays_bare():
    assert str(HaloInputError("two axes are needed")) == "two axes are needed"


def test_hdu_zero_is_named():
    assert "HDU 0" in str(HaloInputError("no image", hdu=0))


@pytest.mark.parametrize("kind", [HaloInputError, OutsideImageError])
def test_it_crosses_process_borders_whole(kind):
    error = kind("m", path="p", hdu=0, keyword="K", found=(1, 2), hint="h")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_families():
    # What callers may rely on: except ValueError, except KeyError.
    assert issubclass(HaloInputError, ValueError)
    assert issubclass(OutsideImageError, HaloInputError)
    assert issubclass(UnknownModelError, KeyError)
    assert issubclass(errors.MissingExtraError, errors.PluginError)
    assert issubclass(errors.HalopyWarning, UserWarning)


def test_an_unknown_model_reads_as_text():
    assert str(UnknownModelError("no model 'x'")) == "no model 'x'"
    assert str(UnknownModelError()) == ""


def test_an_archive_that_fails():
    error = errors.ProviderError("no answer", cause="timeout", provider="lofar", url="https://a/b", attempts=3,
                                 hint="later")
    assert str(error) == "lofar: no answer (3 attempts, https://a/b); try: later"
    assert str(errors.ProviderError("no answer", url="https://a/b", attempts=1)) == "no answer (https://a/b)"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.ProviderError and str(copy) == str(error) and vars(copy) == vars(error)
    # The user's input is not to blame: except ValueError does not catch it.
    assert issubclass(errors.ProviderError, RuntimeError) and not issubclass(errors.ProviderError, ValueError)
