"""What the command line takes: every command and option; what they do is in the modules ``cli`` and ``cli_…``."""

from __future__ import annotations

import argparse
import importlib.metadata

__all__ = ["make_parser"]

EPILOG = """exit codes: 0 done; 1 an error inside halopy; 2 bad input; 3 an optional package is missing;
4 the network or an archive failed; 5 some images or targets failed, the rest is written; 130 interrupted.
A path that begins with '-' is given as ./-name, or after '--'."""

AUDIT_EPILOG = """exit codes: 0 nothing was found; 5 something was found, each of it on a line of its own; others as of
halopy itself: 1 an error inside halopy; 2 bad input; 130 interrupted."""


def make_parser(run):
    """Return the parser of the command line.

    Parameters
    ----------
    run : mapping of str to callable
        What runs each command; it is called with the parsed arguments, and returns the exit code.

    Returns
    -------
    `argparse.ArgumentParser`
    """
    parser = argparse.ArgumentParser(prog="halopy", description="Find radio halos of galaxy clusters in radio images.",
                                     epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"halopy {importlib.metadata.version('halopy-radio')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and every warning")
    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument("--survey", metavar="NAME", help="fill what the header lacks, e.g. gleam-170-231")
    reading.add_argument("--beam", metavar="MAJ[,MIN[,PA]]", help="beam: FWHM in arcsec, position angle in degrees")
    reading.add_argument("--unit", help="unit of the pixels, e.g. Jy/beam")
    reading.add_argument("--frequency", type=float, metavar="MHZ", help="centre of the band in MHz")
    reading.add_argument("--plane", type=int, metavar="N", help="plane of a cube, counted from 0")
    reading.add_argument("--hdu", metavar="HDU", help="number or name of the HDU")

    detect = commands.add_parser("detect", parents=[common, reading], epilog=EPILOG,
                                 help="search images for radio halos",
                                 description="Search images for radio halos, at targets or blindly. A search of "
                                             "several images that was stopped goes on when the command is repeated.",
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    detect.add_argument("images", nargs="+", metavar="IMAGE", help="FITS image, or a folder of them")
    detect.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the tables and the page")
    detect.add_argument("--targets", metavar="FILE", help="table of positions; without it the search is blind")
    detect.add_argument("--classifier", metavar="NAME", help="an installed classifier, or a .safetensors file")
    detect.add_argument("--detector", metavar="FILE", help="a detector saved as .safetensors")
    detect.add_argument("--noise", metavar="METHOD", help="how the noise is estimated")
    detect.add_argument("--rms-map", metavar="FILE", help="FITS map of the noise of the image")
    detect.add_argument("--n-controls", type=int, metavar="N", help="control positions per image, for p-values")
    detect.add_argument("--time-limit", type=float, metavar="SECONDS", help="give up an image that takes longer")
    detect.add_argument("--seed", type=int, default=0, metavar="N", help="of the random control positions (default 0)")
    detect.add_argument("--overwrite", action="store_true", help="replace results in DIR")
    detect.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    detect.set_defaults(command=run["detect"])

    fetch = commands.add_parser("fetch", parents=[common], epilog=EPILOG, help="fetch the images of a list of targets",
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    fetch.add_argument("--targets", required=True, metavar="FILE", help="table of positions")
    fetch.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the images")
    fetch.add_argument("--survey", default="gleam-170-231", metavar="NAME", help="default gleam-170-231")
    fetch.add_argument("--size", default="2 deg", metavar="ANGLE", help="side of a field, e.g. 90arcmin (default 2deg)")
    fetch.add_argument("--provider", metavar="NAME", help="an archive; default: the survey's first")
    fetch.add_argument("--folder", metavar="DIR", help="take the images from a folder of yours instead")
    fetch.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at a time (default 2)")
    fetch.add_argument("--cache", metavar="DIR", help="where to keep what has come; default HALOPY_CACHE or the user's")
    fetch.add_argument("--offline", action="store_true", help="take nothing from the network")
    fetch.add_argument("--overwrite", action="store_true", help="fetch again what is there")
    fetch.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    fetch.set_defaults(command=run["fetch"])

    inspect = commands.add_parser("inspect", parents=[common, reading], help="say what halopy reads in an image")
    inspect.add_argument("image", metavar="IMAGE", help="FITS image")
    inspect.set_defaults(command=run["inspect"])

    simulate = commands.add_parser("simulate", parents=[common], help="make simulated cutouts, or a field of a survey",
                                   description="Simulate labelled cutouts (-n) or a field with clusters (--field).")
    what = simulate.add_mutually_exclusive_group(required=True)
    what.add_argument("-n", "--number", type=int, metavar="N", help="so many cutouts; a stopped run is continued")
    what.add_argument("--field", metavar="NY[,NX]", help="one field of so many pixels instead")
    simulate.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the files")
    simulate.add_argument("--survey", default="gleam-170-231", metavar="NAME", help="default gleam-170-231")
    simulate.add_argument("--mix", metavar="LABEL=SHARE,...", help="what is shown, e.g. halo=0.5,none=0.5")
    simulate.add_argument("--size", metavar="NY[,NX]", help="pixels of a cutout (default 64)")
    simulate.add_argument("--chunk", type=int, metavar="N", help="cutouts in a file (default 8192)")
    simulate.add_argument("--clusters", type=int, metavar="N", help="clusters in a field (default 8)")
    simulate.add_argument("--faintest", type=float, metavar="MJY", help="flux of the faintest compact source in mJy")
    simulate.add_argument("--relation", metavar="NAME", help="power-mass relation, e.g. cassano+2013")
    simulate.add_argument("--clean", action="store_true", help="no artefacts: Gaussian noise and sources only")
    simulate.add_argument("--clip-low", type=float, metavar="S", help="with --clip-high: lower end, e.g. -3")
    simulate.add_argument("--clip-high", type=float, metavar="S", help="set to 0 what is fainter than S sigma")
    simulate.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same sky (default 0)")
    simulate.add_argument("--overwrite", action="store_true", help="replace a field in DIR")
    simulate.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    simulate.set_defaults(command=run["simulate"])

    demo = commands.add_parser("demo", parents=[common], help="run on a simulated field that ships with halopy")
    demo.add_argument("-o", "--output", default="halopy-demo", metavar="DIR", help="default ./halopy-demo")
    demo.set_defaults(command=run["demo"])
    _models(commands, common, run)
    _visibilities(commands, common, run)
    return parser


def _models(commands, common, run):
    """Add the commands that train models and judge them."""
    cutouts = argparse.ArgumentParser(add_help=False)
    cutouts.add_argument("--cutouts", required=True, nargs="+", metavar="PATH",
                         help="labelled cutouts: files of CutoutSet.write, or folders of halopy simulate")
    training = argparse.ArgumentParser(add_help=False)
    training.add_argument("-o", "--output", required=True, metavar="FILE", help="the model, e.g. model.safetensors")
    training.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same model (default 0)")
    training.add_argument("--max-images", type=int, metavar="N", help="stop after so many training images were shown")
    training.add_argument("--max-seconds", type=float, metavar="S", help="stop after so much time")
    training.add_argument("--overwrite", action="store_true", help="replace FILE")
    training.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")

    train = commands.add_parser("train", parents=[common, cutouts, training], help="train a model on cutouts")
    which = train.add_mutually_exclusive_group(required=True)
    which.add_argument("--classifier", metavar="NAME", help="an installed classifier")
    which.add_argument("--generator", metavar="NAME", help="an installed generator of halo images")
    train.add_argument("--kind", choices=["classifier", "generator"], help="default: whichever is named")
    train.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="settings of the model, e.g. width=8")
    train.add_argument("--checkpoint", metavar="FILE", help="write the state here, and continue from it")
    train.set_defaults(command=run["train"])

    finetune = commands.add_parser("finetune", parents=[common, cutouts, training],
                                   help="continue the training of a model on new cutouts")
    finetune.add_argument("--model", required=True, metavar="FILE", help="a trained model, or a name with weights")
    finetune.add_argument("--learning-rate", type=float, metavar="X", help="default: a tenth of the model's own")
    finetune.add_argument("--max-epochs", type=int, metavar="N", help="default: the model's own")
    finetune.set_defaults(command=run["finetune"])

    evaluate = commands.add_parser(
        "evaluate", parents=[common, cutouts], help="judge models on labelled cutouts",
        description="Score cutouts with trained models (--model), or cross-validate (--classifier): tables and a page.")
    which = evaluate.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", nargs="+", metavar="FILE",
                       help="trained models that have not seen the cutouts, or names with weights")
    which.add_argument("--classifier", nargs="+", metavar="NAME", help="installed classifiers, trained in every fold")
    evaluate.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the tables and the page")
    evaluate.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                          help="settings of the classifiers, e.g. max_epochs=10")
    evaluate.add_argument("--folds", type=int, metavar="N", help="default 5")
    evaluate.add_argument("--seeds", type=int, metavar="N", help="how often the groups are dealt (default 5)")
    evaluate.add_argument("--by", default="group", metavar="COLUMN|ANGLE",
                          help="what stays together: a column (default group), or sky within an angle, e.g. 1.5deg")
    evaluate.add_argument("--baseline", metavar="NAME", help="what the others are compared with (matched-filter)")
    evaluate.add_argument("--no-baselines", action="store_true", help="nothing but the models that are named")
    evaluate.add_argument("--threshold", type=float, default=0.5, metavar="P", help="flagged from here (default 0.5)")
    evaluate.add_argument("--draws", type=int, default=1000, metavar="N", help="draws of an interval (default 1000)")
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="of folds, trainings and draws (default 0)")
    evaluate.add_argument("--overwrite", action="store_true", help="replace results in DIR")
    evaluate.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    evaluate.set_defaults(command=run["evaluate"])

    audit = commands.add_parser("audit", parents=[common], epilog=AUDIT_EPILOG,
                                help="look for sky that training and test share",
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    audit.add_argument("--train", required=True, nargs="+", metavar="PATH", help="cutouts to train on")
    audit.add_argument("--test", required=True, nargs="+", metavar="PATH", help="cutouts to judge with")
    audit.add_argument("--model", nargs="+", default=[], metavar="FILE",
                       help="models and generators in use, or names with weights")
    audit.add_argument("--radius", default="1.5deg", metavar="ANGLE", help="nearer targets share sky (default 1.5deg)")
    audit.add_argument("-o", "--output", metavar="FILE", help="write the findings as .ecsv")
    audit.add_argument("--overwrite", action="store_true", help="replace FILE")
    audit.set_defaults(command=run["audit"])
    _images(commands, common, run)


def _images(commands, common, run):
    """Add the commands that generate images, judge them, and tell whether they help."""
    compare = commands.add_parser(
        "compare", parents=[common], help="compare classifiers with and without augmentation",
        description="Cross-validate classifiers with what is added to their training: nothing (none), turned copies "
                    "(classical), or images of generators, which are trained in every fold. The folder keeps every "
                    "part: a stopped command goes on, and several of the same share the work.")
    compare.add_argument("--cutouts", required=True, nargs="+", metavar="PATH",
                         help="labelled cutouts: files of CutoutSet.write, or folders of halopy simulate")
    compare.add_argument("--test", nargs="+", metavar="PATH", help="score these instead, by models without their group")
    compare.add_argument("--classifier", required=True, nargs="+", metavar="NAME", help="installed classifiers")
    compare.add_argument("--augmentation", nargs="+", default=["none"], metavar="NAME",
                         help="none, classical, or installed generators (default none)")
    compare.add_argument("--ratio", nargs="+", type=float, default=[2.0], metavar="X",
                         help="generated images for each real one (default 2)")
    compare.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for parts, tables and the page")
    compare.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME.KEY=VALUE",
                         help="settings of what is named, e.g. cnn.max_epochs=10 cwgan.width=16")
    compare.add_argument("--folds", type=int, default=5, metavar="N", help="default 5")
    compare.add_argument("--seeds", type=int, default=2, metavar="N", help="how often groups are dealt (default 2)")
    compare.add_argument("--by", default="group", metavar="COLUMN|ANGLE",
                         help="what stays together: a column (default group), or sky within an angle, e.g. 1.5deg")
    compare.add_argument("--size", type=int, metavar="N", help="pixels of the middle of cutouts that all arms see")
    compare.add_argument("--max-images", type=int, metavar="N", help="images shown in the training of each generator")
    compare.add_argument("--model-images", type=int, metavar="N", help="and of each classifier, at most")
    compare.add_argument("--draws", type=int, default=1000, metavar="N", help="draws of an interval (default 1000)")
    compare.add_argument("--seed", type=int, default=0, metavar="N", help="of folds, trainings and draws (default 0)")
    compare.add_argument("--overwrite", action="store_true", help="replace tables and page in DIR")
    compare.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    compare.set_defaults(command=run["compare"])

    generate = commands.add_parser(
        "generate", parents=[common], help="make images of halos, and of what is mistaken for them",
        description="Make images that a generator has learned (--model): so many of each label (-n), or one for each "
                    "row of a table (--conditions). They are cutouts, in one FITS file; a picture of the first lies "
                    "beside it.")
    generate.add_argument("--model", required=True, metavar="NAME|FILE",
                          help="a trained generator (.safetensors), or a name with weights or in need of none")
    generate.add_argument("-n", "--number", type=int, metavar="N", help="so many images of each label")
    generate.add_argument("-o", "--output", required=True, metavar="FILE", help="the cutouts, e.g. samples.fits")
    generate.add_argument("--label", nargs="+", metavar="LABEL", help="what they show (default halo)")
    generate.add_argument("--grade", metavar="GRADE", help="confirmed or candidate, of halos")
    generate.add_argument("--snr", type=float, metavar="X", help="peak over the noise")
    generate.add_argument("--frequency", type=float, metavar="MHZ", help="frequency in MHz")
    generate.add_argument("--rms", metavar="X", help="noise, e.g. 20mJy/beam; a bare number is in Jy/beam")
    generate.add_argument("--conditions", metavar="FILE", help="table of what is asked for, a row an image")
    generate.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                          help="settings: all where nothing is trained, else those of the sampling, e.g. steps=18")
    generate.add_argument("--clip-low", type=float, metavar="S", help="with --clip-high: lower end, e.g. -3")
    generate.add_argument("--clip-high", type=float, metavar="S", help="set to 0 what is fainter than S sigma")
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same images (default 0)")
    generate.add_argument("--overwrite", action="store_true", help="replace FILE and its picture")
    generate.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    generate.set_defaults(command=run["generate"])

    quality = commands.add_parser(
        "quality", parents=[common], help="compare generated images with real ones",
        description="Measure how far generated cutouts are from real ones, beside how far real ones are from each "
                    "other: a table and a page.")
    quality.add_argument("--real", required=True, nargs="+", metavar="PATH", help="cutouts to compare with")
    quality.add_argument("--generated", required=True, nargs="+", metavar="PATH",
                         help="cutouts of halopy generate; each file is judged by itself")
    quality.add_argument("--training", nargs="+", metavar="PATH",
                         help="what the generators were trained on, to look for copies of it")
    quality.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the table and the page")
    quality.add_argument("--classifier", metavar="NAME", help="what is trained on one and tested on the other")
    quality.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default 0)")
    quality.add_argument("--overwrite", action="store_true", help="replace results in DIR")
    quality.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    quality.set_defaults(command=run["quality"])


def _visibilities(commands, common, run):
    """Add the command that works without images."""
    uvdetect = commands.add_parser(
        "uvdetect", parents=[common], epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        help="search visibilities for radio halos (experimental)",
        description="Test positions (--targets), or search the field, for exponential halos in calibrated\n"
                    "visibilities. All files are one set of data: several nights or bands of a field are added.")
    uvdetect.add_argument("files", nargs="+", metavar="FILE", help="UVFITS, UVH5 or Measurement Set")
    uvdetect.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the tables and the page")
    uvdetect.add_argument("--targets", metavar="FILE", help="table of positions; without it the search is blind")
    uvdetect.add_argument("--sources", metavar="FILE", help="table of point sources: position, flux, flux_err")
    uvdetect.add_argument("--confusion", metavar="FLUX", help="fainter sources are not in it, e.g. 20mJy: their noise")
    uvdetect.add_argument("--radii", nargs="+", metavar="ANGLE",
                          help="e-folding radii of halos, e.g. 2arcmin 3arcmin (default 30 arcsec to 16 arcmin; "
                               "blind: 1 to 8 arcmin)")
    uvdetect.add_argument("--search-radius", default="1deg", metavar="ANGLE",
                          help="half the side of the field that is searched (default 1deg)")
    uvdetect.add_argument("--weights", default="scatter", metavar="NAME|NOISE",
                          help="scatter (default), file, or the noise of a visibility, e.g. 2Jy")
    uvdetect.add_argument("--max-distance", type=float, metavar="N", help="leave out longer baselines, in wavelengths")
    uvdetect.add_argument("--ignore-flags", action="store_true", help="take flagged visibilities too")
    uvdetect.add_argument("--field", metavar="NAME", help="of a file with several phase centres")
    uvdetect.add_argument("--column", default="DATA", metavar="NAME", help="of a Measurement Set (default DATA)")
    uvdetect.add_argument("--stokes-v", action="store_true", help="test Stokes V as well, where there is no halo")
    uvdetect.add_argument("--bin", type=float, metavar="N", help="average over cells of the u-v plane, in wavelengths")
    uvdetect.add_argument("--offsets", type=int, default=0, metavar="N", help="test so many off-positions (default 0)")
    uvdetect.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default 0)")
    uvdetect.add_argument("--overwrite", action="store_true", help="replace results in DIR")
    uvdetect.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    uvdetect.set_defaults(command=run["uvdetect"])
