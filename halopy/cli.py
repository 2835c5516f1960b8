"""The command line: ``halopy fetch``, ``detect``, ``simulate``, ``train``, ``evaluate``, ``generate`` and so on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import sys
import warnings
from pathlib import Path

from halopy.cli_parser import make_parser

__all__ = ["main"]

EXIT = {"ok": 0, "internal": 1, "input": 2, "extra": 3, "network": 4, "partly": 5, "interrupted": 130}


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, default those of the process.

    Returns
    -------
    int
        0 done; 1 an error inside halopy; 2 bad input; 3 an optional package is missing; 4 the network or
        an archive failed; 5 some images or targets failed; 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without Unicode must not end a run
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = make_parser(_COMMANDS).parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    debug = arguments.debug
    with warnings.catch_warnings():
        _show_warnings(debug)
        try:
            code = arguments.command(arguments)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt as stop:
            print(f"interrupted{f': {stop}' if stop.args else ''}", file=sys.stderr)
            return EXIT["interrupted"]
        except BrokenPipeError:
            # The reader has gone (head, less): what remains in the buffer must not raise at exit.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT["ok"]
        except Exception as error:  # the user gets one line; --debug gives the traceback
            if debug:
                raise
            from halopy.scan import one_line

            code = _code(error)
            hint = "; run again with --debug to see where" if code == EXIT["internal"] else ""
            print(f"error: {one_line(error)}{hint}", file=sys.stderr)
            return code


def _code(error):
    from halopy.errors import (
        HaloInputError,
        MissingExtraError,
        NotFittedError,
        PluginError,
        ProviderError,
        UnknownModelError,
    )

    if isinstance(error, MissingExtraError):
        return EXIT["extra"]
    if isinstance(error, ProviderError):
        return EXIT["network"]
    if isinstance(error, (HaloInputError, UnknownModelError, NotFittedError, PluginError)):
        return EXIT["input"]
    return EXIT["internal"]


def _show_warnings(debug):
    from halopy.errors import HalopyWarning

    said = set()
    original = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None):
        if not issubclass(category, HalopyWarning):
            original(message, category, filename, lineno, file, line)
        elif str(message) not in said:
            said.add(str(message))
            _warn(str(message))

    warnings.showwarning = show
    if not debug:
        warnings.simplefilter("ignore")
    warnings.simplefilter("always", HalopyWarning)


def _warn(text):
    from halopy.io.candidates import printable

    print(f"warning: {printable(text)}", file=sys.stderr)


def _read_keywords(arguments):
    from astropy import units as u

    from halopy.errors import HaloInputError
    from halopy.image import Beam

    keywords = {name: getattr(arguments, name) for name in ("survey", "unit", "plane")
                if getattr(arguments, name) is not None}
    if arguments.hdu is not None:
        keywords["hdu"] = int(arguments.hdu) if arguments.hdu.isdigit() else arguments.hdu
    if arguments.frequency is not None:
        keywords["frequency"] = arguments.frequency * u.MHz
    if arguments.beam is not None:
        try:
            numbers = [float(part) for part in arguments.beam.split(",")]
            if not 1 <= len(numbers) <= 3:
                raise ValueError
        except ValueError:
            raise HaloInputError("--beam takes one to three numbers", found=arguments.beam,
                                 hint="--beam 150,130,20 (arcsec, arcsec, degrees)") from None
        units = (u.arcsec, u.arcsec, u.deg)
        keywords["beam"] = Beam(*(number * unit for number, unit in zip(numbers, units, strict=False)))
    return keywords


def _read(path, keywords):
    from halopy.image import ClusterImage

    return ClusterImage.read(path, **keywords)


def _detector(arguments):
    from halopy.classify.base import Classifier
    from halopy.detect import Detector
    from halopy.errors import HaloInputError
    from halopy.preprocess.noise import NoiseEstimator
    from halopy.registry import classifiers

    given = {name: getattr(arguments, name) for name in ("classifier", "noise", "rms_map", "n_controls")}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.detector is not None:
        if given:
            raise HaloInputError("a saved detector brings its own settings", found=", ".join(given),
                                 hint="--detector without --classifier, --noise, --rms-map and --n-controls")
        return Detector.load(arguments.detector)
    settings = {}
    if {"noise", "rms_map"} <= set(given):
        raise HaloInputError("the noise is estimated or read, not both", hint="--noise or --rms-map")
    if "rms_map" in given:
        settings["noise"] = NoiseEstimator.from_map(arguments.rms_map)
    elif "noise" in given:
        settings["noise"] = NoiseEstimator(arguments.noise)
    if "classifier" in given:
        name = arguments.classifier
        if name.endswith(".safetensors") or os.path.isfile(name):
            settings["classifier"] = Classifier.load(name)
        else:
            settings["classifier"] = model = classifiers.ready(name)
            if model.trainable and not model.fitted_:
                raise HaloInputError(f"{name} must be trained before it searches",
                                     hint=f"halopy train --classifier {name} -o {name}.safetensors, then --classifier "
                                          f"{name}.safetensors")
    if "n_controls" in given:
        settings["n_controls"] = arguments.n_controls
    return Detector(**settings)


def _detect(arguments):
    from halopy.errors import HaloInputError
    from halopy.io.catalog import read_targets
    from halopy.scan_parts import unfinished

    if arguments.seed < 0:
        raise HaloInputError("--seed must be 0 or more", found=arguments.seed)
    folder = Path(arguments.output)
    images = [path for given in arguments.images for path in _images(given, arguments.survey)]
    if arguments.rms_map is not None and len(images) > 1:
        raise HaloInputError("--rms-map belongs to one image", found=f"{len(images)} images")
    keywords = _read_keywords(arguments)
    detector = _detector(arguments)
    targets = None if arguments.targets is None else read_targets(arguments.targets)
    results = [folder / name for name in ("index.html", *(f"detections.{e}" for e in ("ecsv", "vot", "fits", "reg")))]
    stale = _significance_maps(folder)
    maps = {folder / f"significance{number}.fits" for number in ("", *(f"-{n + 1}" for n in range(len(images))))}
    with unfinished(folder, _plan(arguments, images), results=[*results, *sorted(maps.union(stale))],
                    overwrite=arguments.overwrite) as parts:
        return _search(images, detector, folder, read=lambda path: _read(path, keywords), targets=targets,
                       seed=arguments.seed, quiet=arguments.quiet, stale=stale, parts=parts,
                       time_limit=arguments.time_limit)


def _plan(arguments, images):
    """What the results of a search depend on: the arguments, and size and date of the files that they name."""
    silent = ("command", "debug", "overwrite", "quiet", "output", "time_limit")
    given = {name: value for name, value in vars(arguments).items() if name not in silent}
    files = [*images, *(given[name] for name in ("targets", "classifier", "detector", "rms_map"))]
    states = {str(path): os.stat(path) for path in files if path is not None and os.path.isfile(path)}
    return given | {"halopy": importlib.metadata.version("halopy-radio"),
                    "files": {path: [state.st_size, state.st_mtime_ns] for path, state in states.items()}}


def _images(given, survey):
    """An image, or those of a folder."""
    if not os.path.isdir(given):
        return [given]
    from halopy.io.folder import images_in

    return images_in(given, survey=survey)


def _significance_maps(folder):
    """The maps that a search has left in a folder."""
    return [path for path in sorted(folder.glob("significance*.fits"))
            if re.fullmatch(r"significance(-\d+)?\.fits", path.name) and path.is_file()]


def _search(paths, detector, folder, *, read, targets, seed, quiet, stale=(), parts=None, time_limit=None):
    from halopy.io.candidates import candidates_text, texts
    from halopy.io.detections import write_detections
    from halopy.report import write_page
    from halopy.scan import scan

    found = scan(paths, detector, read=read, targets=targets, parts=parts, time_limit=time_limit,
                 progress=_bar("images", quiet or len(paths) == 1), rng=seed)
    searched = ", ".join(str(path) for path in paths[:20]) + (" ..." if len(paths) > 20 else "")
    found.detections.meta.update(detector=repr(detector), seed=seed, images=searched,
                                 search="blind" if targets is None else f"{len(targets)} targets")
    written = write_detections(found.detections, folder)
    for number, image in enumerate(found.significance, 1):
        path = folder / ("significance.fits" if len(found.significance) == 1 else f"significance-{number}.fits")
        image.write(path, overwrite=True)
        written[path.stem] = path
    # A map of the last search beside the tables of this one would be taken for a result.
    for path in set(stale) - set(written.values()):
        path.unlink(missing_ok=True)
    for failure in found.failures:
        print(f"error: {failure}", file=sys.stderr)
    # The tables are safe before the pictures are drawn, and all is before a reader may close the pipe.
    page = folder / "index.html"
    write_page(page, found.detections, images=found.images, cutouts=found.cutouts, residuals=found.residuals,
               explanations=found.explanations, progress=_bar("pictures", quiet))
    if not quiet:
        print(candidates_text(found.detections))
        print(f"\n{page}: the page to look at\n" + "\n".join(str(path) for path in written.values()))
    partly = found.failures or "error" in texts(found.detections, "status")
    return EXIT["partly"] if partly else EXIT["ok"]


def _bar(what, off):
    if off or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return lambda items: tqdm(items, desc=what, leave=False)


def _uvdetect(arguments):
    from halopy.cli_uvdetect import uvdetect

    text, failures, ending = uvdetect(arguments, progress=_bar("targets", arguments.quiet))
    return _partly(text, failures, ending, arguments)


def _inspect(arguments):
    from halopy.io.fits import describe

    print(describe(_read(arguments.image, _read_keywords(arguments))))
    return EXIT["ok"]


def _simulate(arguments):
    from halopy.cli_simulate import simulate

    return _told(simulate(arguments, progress=_bar("files", arguments.quiet)), arguments)


def _fetch(arguments):
    from halopy.cli_fetch import fetch

    text, failures, ending = fetch(arguments, progress=_bar("images", arguments.quiet))
    return _partly(text, failures, ending, arguments)


def _partly(text, failures, ending, arguments):
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if not arguments.quiet:
        print(text)
    return EXIT[ending]


def _train(arguments):
    from halopy.cli_models import train

    return _told(train(arguments), arguments)


def _finetune(arguments):
    from halopy.cli_models import finetune

    return _told(finetune(arguments), arguments)


def _evaluate(arguments):
    from halopy.cli_evaluate import evaluate

    return _told(evaluate(arguments, progress=_bar("folds", arguments.quiet)), arguments)


def _audit(arguments):
    from halopy.cli_models import audit

    text, ending = audit(arguments)
    print(text)
    return EXIT[ending]


def _generate(arguments):
    from halopy.cli_generate import generate

    return _told(generate(arguments), arguments)


def _compare(arguments):
    from halopy.cli_compare import compare

    return _told(compare(arguments, progress=_bar("classifiers", arguments.quiet)), arguments)


def _quality(arguments):
    from halopy.cli_generate import quality

    return _told(quality(arguments), arguments)


def _told(text, arguments):
    if not arguments.quiet:
        print(text)
    return EXIT["ok"]


def _demo(arguments):
    from importlib.resources import as_file, files

    from halopy.detect import Detector
    from halopy.errors import HaloInputError
    from halopy.io.catalog import read_targets

    folder = Path(arguments.output)
    found = folder / "detections.ecsv"
    if found.exists() and "demo (simulated)" not in found.read_text(encoding="utf-8", errors="replace"):
        raise HaloInputError("these results are not the demo's", path=folder, hint="another folder with -o")
    data = files("halopy") / "data"
    with as_file(data / "demo.fits") as image, as_file(data / "demo_targets.ecsv") as targets:
        code = _search([image], Detector(), folder, read=lambda path: _read(path, {}),
                       targets=read_targets(targets), seed=0, quiet=False)
    print(f"\nThis was a simulated field. Open {folder / 'index.html'} in a browser.")
    return code


_COMMANDS = {"detect": _detect, "fetch": _fetch, "inspect": _inspect, "simulate": _simulate, "train": _train,
             "evaluate": _evaluate, "audit": _audit, "finetune": _finetune, "generate": _generate, "quality": _quality,
             "compare": _compare, "uvdetect": _uvdetect, "demo": _demo}
