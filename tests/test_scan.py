"""Many images, one list of targets."""

import inspect

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from halopy.cutouts import CutoutSet, tangent_wcs
from halopy.errors import HaloInputError, HalopyWarning, MissingExtraError
from halopy.image import Beam, ClusterImage
from halopy.io.detections import blank_detections
from halopy.report import MAX_MAPS, write_page
from halopy.scan import one_line, scan

CENTRES = {"a": SkyCoord(10, -30, unit="deg"), "b": SkyCoord(10.5, -30, unit="deg")}


def read(path):
    if path not in CENTRES:
        raise HaloInputError("there is no such file", path=path)
    shape = (100, 100)
    return ClusterImage(np.zeros(shape), wcs=tangent_wcs(CENTRES[path], 28 * u.arcsec, shape), unit=u.Jy / u.beam,
                        beam=Beam(140 * u.arcsec), name="field")


class FakeDetector:
    """Keeps the contract of Detector, and remembers its calls."""

    def __init__(self, fail=None):
        self.calls = []
        self.fail = fail

    def __call__(self, image, targets=None, *, rng=None):
        if self.fail is not None:
            raise self.fail
        if targets is None:
            targets = QTable({"name": ["blind"], "position": SkyCoord([10], [-30], unit="deg")})
        self.calls.append((image.name, list(targets["name"]), rng))
        table = blank_detections(targets["name"], targets["position"], image=image.name, status="ok")
        table["probability"] = np.full(len(targets), 0.5)
        return table

    def cutouts(self, image, detections):
        return CutoutSet(np.ones((len(detections), 8, 8)), QTable({"name": detections["name"]}))

    def residuals(self, cutouts):
        return None


def targets():
    return QTable({"name": ["both", "only b", "far", "nowhere"], "redshift": [0.1, 0.2, 0.3, 0.4],
                   "position": SkyCoord([10.2, 10.7, 190, 100], [-30, -30, 30, 20], unit="deg")})


def test_each_image_gets_the_targets_inside_it_and_the_same_seed():
    detector = FakeDetector()
    found = scan(["a", "b"], detector, read=read, targets=targets(), rng=7)
    # The far side of the sky (190, +30) must not fall onto the image at (10, -30).
    assert detector.calls == [("field", ["both"], 7), ("field (2)", ["both", "only b"], 7)]
    table = found.detections
    assert list(table["name"]) == ["both", "both", "only b", "far", "nowhere"]
    assert list(table["status"]) == ["ok", "ok", "ok", "outside", "outside"]
    assert table["redshift"][4] == 0.4
    assert [c is not None for c in found.cutouts] == [True, True, True, False, False]
    assert len(found.residuals) == 5 and len(found.images) == 2
    assert repr(found) == "<Scan of 2 images, 5 rows, 0 failures>"


def test_a_target_without_a_position_is_a_row_and_stops_nothing():
    detector = FakeDetector()
    unknown = QTable({"name": ["both", "lost"], "position": SkyCoord([10.2, np.nan], [-30, np.nan], unit="deg"),
                      "redshift": [0.1, 0.2]})
    table = scan(["a", "b"], detector, read=read, targets=unknown).detections
    assert detector.calls == [("field", ["both"], None), ("field (2)", ["both"], None)]
    assert list(table["name"]) == ["both", "both", "lost"]
    assert list(table["status"]) == ["ok", "ok", "error"]
    assert table["redshift"][2] == 0.2 and np.isnan(table["position"].ra.deg[2])
    only = scan(["a"], detector, read=read, targets=unknown[1:])
    assert list(only.detections["status"]) == ["error"] and only.cutouts == [None]


def test_targets_that_all_lie_elsewhere_are_told_of():
    with pytest.warns(HalopyWarning, match="none of 2 targets lies in an image: are their positions in degrees"):
        found = scan(["a", "b"], FakeDetector(), read=read, targets=targets()[2:])
    assert list(found.detections["status"]) == ["outside", "outside"]


def test_why_an_image_is_of_no_use_is_told():
    class Unusable(FakeDetector):
        def __call__(self, image, targets=None, *, rng=None):
            table = super().__call__(image, targets, rng=rng)
            if image.name == "field":
                table["status"] = np.full(len(table), "unusable")
                table.meta["error"] = "no usable pixels"
            return table

    with pytest.warns(HalopyWarning, match="^a: no usable pixels$") as told:
        found = scan(["a", "b"], Unusable(), read=read, targets=targets())
    assert len(told) == 1
    assert found.detections.meta["error"] == "a: no usable pixels"
    assert [c is None for c in found.cutouts] == [True, False, False, True, True]


def test_a_bad_image_is_a_row_and_the_others_go_on():
    found = scan(["a", "missing/x.fits", "b"], FakeDetector(), read=read, targets=targets())
    assert found.failures == ["missing/x.fits: there is no such file"]
    row = found.detections[found.detections["status"] == "error"]
    assert list(row["name"]) == ["x.fits"] and np.isnan(row["position"].ra.deg[0])
    assert len(found.images) == 2 and len(found.cutouts) == len(found.detections)


def test_a_single_bad_image_and_a_missing_package_are_raised():
    with pytest.raises(HaloInputError, match="no such file"):
        scan(["missing"], FakeDetector(), read=read)
    with pytest.raises(MissingExtraError, match="torch"):
        scan(["a", "b"], FakeDetector(MissingExtraError("needs torch")), read=read)


def test_any_exception_of_one_image_is_held():
    found = scan(["a", "b"], FakeDetector(ZeroDivisionError("oh")), read=read, targets=targets()[:1])
    assert found.failures == ["a: ZeroDivisionError: oh", "b: ZeroDivisionError: oh"]
    # The target was searched for and not found out about: it lies outside no image that could be used.
    assert set(found.detections["status"]) == {"error", "outside"}


def test_without_targets_the_search_is_blind():
    found = scan(["a"], FakeDetector(), read=read)
    assert list(found.detections["name"]) == ["blind"]


def test_pictures_that_fail_do_not_lose_the_numbers():
    detector = FakeDetector()

    def broken(image, detections):
        raise HaloInputError("no pixels")

    detector.cutouts = broken
    with pytest.warns(HalopyWarning, match="no pictures of field: no pixels"):
        found = scan(["a"], detector, read=read)
    assert found.cutouts == [None] and list(found.detections["status"]) == ["ok"]


class Explaining(FakeDetector):
    asked = ()

    def explanations(self, cutouts):
        self.asked = (*self.asked, str(cutouts.table["name"][0]))
        return cutouts.replace(data=2 * cutouts.data)


def test_explanations_are_of_the_best_rows():
    detector = Explaining()
    found = scan(["a", "b"], detector, read=read, targets=targets())
    assert [e is not None for e in found.explanations] == [True, True, True, False, False]
    assert found.explanations[2].table["name"][0] == "only b" and found.explanations[2].data[0, 0, 0] == 2
    few = Explaining()
    found = scan(["a", "b"], few, read=read, targets=targets(), max_pictures=1)
    assert [e is not None for e in found.explanations].count(True) == len(few.asked) == 1
    assert [c is not None for c in found.cutouts].count(True) == 1
    shown = next(k for k, e in enumerate(found.explanations) if e is not None)
    assert found.cutouts[shown].table["name"][0] == found.detections["name"][shown]


def test_of_many_images_the_best_pictures_and_the_first_maps_are_kept():
    class Varied(FakeDetector):
        def __call__(self, image, targets=None, *, rng=None):
            table = super().__call__(image, targets, rng=rng)
            number = 2.0 if image.name == "field" else float(image.name[7:-1])
            table["probability"] = [0.1 * ((7 * number) % 10)]
            if number > 4:  # a column that not all have
                table["frequency"] = [number] * u.MHz
            return table

    def noisy(path):
        image = read("a")
        rms = np.random.default_rng(int(path)).uniform(1, 2, image.shape)
        return image.replace(rms=rms, background=np.zeros(image.shape))

    paths = [str(n) for n in range(10)]
    found = scan(paths, Varied(), read=noisy, targets=targets()[:1], max_pictures=2, max_maps=3)
    everything = scan(paths, Varied(), read=noisy, targets=targets()[:1])
    assert found.detections.pformat(max_width=-1) == everything.detections.pformat(max_width=-1)
    best = np.argsort(found.detections["probability"])[-2:]
    assert {row for row, cutout in enumerate(found.cutouts) if cutout is not None} == set(best.tolist())
    assert all(cutout is not None for cutout in everything.cutouts)
    assert [image.shape for image in found.images] == [(100, 100)] * 3 + [(1, 1)] * 7
    for small, image in zip(found.images, everything.images, strict=True):
        assert small.name == image.name and small.meta.get("shape", small.shape) == (100, 100)
        assert np.nanmedian(small.rms) == np.nanmedian(image.rms)
        assert small.data.base is None or small.data.base.size < 2 * small.data.size  # the image is let go
        assert small.pixel_scale.to_value(u.arcsec) == pytest.approx(28, rel=1e-4)
    assert len(scan(paths[:4], Varied(), read=lambda path: noisy(path).replace(rms=None), targets=targets()[:1],
                    max_maps=1).images) == 4


def test_what_is_kept_is_what_the_page_draws():
    kept, drawn = (inspect.signature(function).parameters for function in (scan, write_page))
    assert kept["max_pictures"].default == drawn["max_panels"].default
    assert kept["max_maps"].default == MAX_MAPS


def test_a_detector_that_does_not_explain():
    assert scan(["a"], FakeDetector(), read=read).explanations == [None]


@pytest.mark.parametrize("error", [HaloInputError("no logit"), ZeroDivisionError("no logit")])
def test_explanations_that_fail_do_not_lose_the_numbers_and_the_other_pictures(error):
    class Failing(FakeDetector):
        def explanations(self, cutouts):
            if cutouts.table["name"][0] == "both":
                raise error
            return cutouts

    with pytest.warns(HalopyWarning, match="no explanation of both: .*no logit .and 1 more.$") as told:
        found = scan(["a", "b"], Failing(), read=read, targets=targets())
    assert len(told) == 1
    assert [e is not None for e in found.explanations] == [False, False, True, False, False]
    assert [c is not None for c in found.cutouts] == [True, True, True, False, False]
    assert list(found.detections["status"])[:3] == ["ok"] * 3


def test_nothing_to_search():
    with pytest.raises(HaloInputError, match="at least one image"):
        scan([], FakeDetector(), read=read)
    with pytest.raises(HaloInputError, match="targets that is not empty"):
        scan(["a"], FakeDetector(), read=read, targets=targets()[:0])


def test_one_line_tells_the_kind_of_what_was_not_expected():
    assert one_line(HaloInputError("bad\nbeam")) == "bad beam"
    assert one_line(KeyError("x"), "a.fits") == "a.fits: KeyError: 'x'"
