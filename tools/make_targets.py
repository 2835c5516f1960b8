"""Make the table of the 46 targets of arXiv 2411.15559: their values, where each comes from, and who disagrees.

Usage: python tools/make_targets.py [FOLDER]  (default: halopy/data)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from halopy.cutouts import write_atomically
from halopy.labels import classify

REPOSITORY = "github.com/mishraashu6566/Radio-Halos-Classification-with-MWA"
PSZ2 = "PSZ2 (VizieR J/A+A/594/A27)"
GLEAM = "GLEAM by SkyView, https://skyview.gsfc.nasa.gov"
HALOS = "https://dmc.datacentral.org.au/dataset/mwa-askap-atca-and-chandra-images-of-abell-141-and-abell-3404"
MWA2 = "https://dmc.datacentral.org.au/dataset/data-for-an-mwa-2-survey-of-diffuse-radio-emission-in-galaxy-clusters"
nan = np.nan

# Number in the list of the 23, name, ra, dec (centre of the public GLEAM images), redshift; PSZ2's name, mass, upper
# and lower error (1e14 solar masses); class, arXiv number of the paper that the list cites, images, public folder.
TARGETS = [
    (1, "Abell 0141", 16.404928, -24.680541, 0.23, "G175.69-85.98", 5.673, 0.356, 0.398,
     "H", "2103.08282", HALOS, "TRAIN_DATA_1"),
    (2, "Abell 3404", 101.37292, -54.22694, 0.1644, "G263.68-22.55", 7.964, 0.232, 0.21,
     "H", "2103.08282", HALOS, "TRAIN_DATA_1"),
    (3, "Abell S1121", 351.298843, -41.203703, 0.358, "G348.90-67.37", 7.194, 0.485, 0.446,
     "H", "1707.03517", GLEAM, "TEST_DATA_1"),
    (4, "Abell S1063", 342.189, -44.5282, 0.3475, "G349.46-59.95", 11.359, 0.344, 0.341,
     "H", "1707.03517", GLEAM, "TRAIN_DATA_1"),
    (5, "MACS J2243.4-0935", 340.8379, -9.5953, 0.447, "G056.93-55.08", 9.992, 0.439, 0.439,
     "H", "1707.03517", GLEAM, "TRAIN_DATA_1"),
    (6, "Abell 2163", 243.942, -6.1473, 0.203, "G006.76+30.45", 16.116, 0.297, 0.292,
     "H", "1701.06742", GLEAM, "TRAIN_DATA_1"),
    (7, "Abell 2254", 259.44125, 19.673, 0.178, "G041.45+29.10", 5.587, 0.36, 0.355,
     "H", "1701.06742", GLEAM, "TRAIN_DATA_1"),
    (8, "Abell 2744", 3.58346, -30.38828, 0.3066, "G008.94-81.22", 9.836, 0.395, 0.375,
     "H", "1701.06742", GLEAM, "TEST_DATA_1"),
    (9, "PLCK G287.0+32.9", 177.705, -28.076806, 0.39, "G286.98+32.90", 14.693, 0.392, 0.417,
     "H", "1701.06742", GLEAM, "TEST_DATA_1"),
    (10, "RXC J1314.4-2515", 198.606, -25.2621, 0.2439, "G309.49+37.31", 6.717, 0.529, 0.533,
     "H", "1701.06742", GLEAM, "TRAIN_DATA_1"),
    (11, "Abell 2680", 359.117, -21.038, 0.177, "", nan, nan, nan,
     "cH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (12, "Abell 2693", 0.537, -19.555, 0.173, "", nan, nan, nan,
     "cH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (13, "Abell 2811", 10.53675, -28.53578, 0.1082, "G358.21-87.49", 3.648, 0.238, 0.245,
     "cH or mH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (14, "Abell 3186", 58.0858, -74.0031, 0.127, "G288.63-37.66", 6.441, 0.191, 0.199,
     "cH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (15, "Abell 3399", 99.325647, -48.483999, 0.2026, "G257.32-22.19", 5.307, 0.273, 0.272,
     "cH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (16, "PSZ1 G287.95-32.98", 74.849161, -75.801788, 0.25, "G287.96-32.99", 6.183, 0.256, 0.253,
     "cH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (17, "Abell 2496", 342.740833, -16.401389, 0.1221, "G047.73-60.15", 3.364, 0.296, 0.32,
     "cH", "1707.03517", GLEAM, "TRAIN_DATA_1"),
    (18, "Abell 2721", 1.5088, -34.7256, 0.1147, "G352.28-77.66", 4.002, 0.249, 0.227,
     "cH", "1707.03517", GLEAM, "TRAIN_DATA_1"),
    (19, "Abell S0084", 12.3467, -29.5258, 0.108, "", nan, nan, nan,
     "cH", "1707.03517", GLEAM, "TRAIN_DATA_1"),
    (20, "GMBCG J357.91841-08.97978", 357.91841, -8.979779, 0.3939, "G082.31-67.00", 5.901, 0.547, 0.565,
     "cH", "1707.03517", GLEAM, "TEST_DATA_1"),
    (21, "Abell 0122", 14.35429, -26.27997, 0.1135, "", nan, nan, nan,
     "cmH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (22, "MCXC J0145.2-6033", 26.2996, -60.5625, 0.1805, "G291.34-55.31", 3.687, 0.29, 0.315,
     "cmH", "1707.03517", MWA2, "TRAIN_DATA_1"),
    (23, "RXC J0137.2-0912", 24.30571, -9.18711, 0.0409, "", nan, nan, nan,
     "mH", "1707.03517", MWA2, "TEST_DATA_1"),
    (0, "Abell 0013", 3.4104, -19.5053, 0.094, "G072.40-78.45", 2.757, 0.233, 0.245,
     "N:relic/phoenix", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 0085", 10.40088, -9.3251, 0.0555, "G115.25-72.07", 4.918, 0.127, 0.146,
     "N:relic/phoenix", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 0112", 13.4125, -0.795, nan, "", nan, nan, nan,
     "N:other", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 0133", 15.6729, -21.8815, 0.0569, "G149.63-84.19", 3.018, 0.179, 0.164,
     "N:relic/phoenix", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 0168", 18.78157, 0.31968, 0.045, "G135.76-62.03", 1.523, 0.246, 0.239,
     "N:relic", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 0550", 88.2137, -21.0576, 0.0989, "G226.16-21.95", 3.873, 0.252, 0.272,
     "N:other", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 1631", 193.2108, -15.4269, 0.0462, "G303.56+47.54", 1.702, 0.202, 0.205,
     "N:other", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 2063", 230.7575, 8.6394, 0.0355, "G012.81+49.68", 1.898, 0.175, 0.18,
     "N:relic/phoenix", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 2751", 4.05804, -31.3885, 0.107, "", nan, nan, nan,
     "N:relic", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 3164", 56.57, -57.0364, 0.057, "G269.36-47.20", 1.534, 0.244, 0.303,
     "N:head-tail", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell 3365", 87.05, -21.935, 0.0926, "", nan, nan, nan,
     "N:relic", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell S0405", 57.8867, -82.2208, 0.0613, "G296.42-32.49", 2.461, 0.17, 0.166,
     "N:other", "", GLEAM, "TRAIN_DATA_0"),
    (0, "Abell S1099", 348.3154, -23.1444, 0.11, "", nan, nan, nan,
     "N:other", "", GLEAM, "TEST_DATA_0"),
    (0, "AqrCC 087", 352.875, -21.916667, nan, "", nan, nan, nan,
     "N:other", "", GLEAM, "TEST_DATA_0"),
    (0, "3C 136.1", 79.013054, 24.973742, 0.064, "", nan, nan, nan,
     "N:radio galaxy", "", GLEAM, "TRAIN_DATA_0"),
    (0, "3C 315", 228.416765, 26.123264, 0.108, "", nan, nan, nan,
     "N:radio galaxy", "", GLEAM, "TRAIN_DATA_0"),
    (0, "NGC 326", 14.594291, 26.866306, 0.0474, "", nan, nan, nan,
     "N:radio galaxy", "", GLEAM, "TEST_DATA_0"),
    (0, "PKS 2014-55", 304.505392, -55.658775, 0.0607, "", nan, nan, nan,
     "N:radio galaxy", "", GLEAM, "TRAIN_DATA_0"),
    (0, "ORC 1", 315.74292, -62.00444, 0.551, "", nan, nan, nan,
     "N:ORC", "", GLEAM, "TEST_DATA_0"),
    (0, "ORC 2", 314.67833, -57.61611, nan, "", nan, nan, nan,
     "N:ORC", "", GLEAM, "TEST_DATA_0"),
    (0, "ORC 3", 314.73458, -57.61528, nan, "", nan, nan, nan,
     "N:ORC", "", GLEAM, "TRAIN_DATA_0"),
    (0, "ORC 4", 238.85272, 27.44271, 0.451, "", nan, nan, nan,
     "N:ORC", "", GLEAM, "TRAIN_DATA_0"),
    (0, "ORC 5", 15.602083, -24.843917, 0.27, "", nan, nan, nan,
     "N:ORC", "", GLEAM, "TRAIN_DATA_0"),
]

# What the paper's list does not say, and another source does: also, its source.
ALSO = {
    "Abell 2744": ("relic", "memory"),
    "PLCK G287.0+32.9": ("relic", "memory"),
    "RXC J1314.4-2515": ("relic", "memory"),
    "Abell 3186": ("relic", "arXiv:2106.12281"),
    "Abell 3399": ("relic", "arXiv:2106.12281"),
}

# The kind of the targets without a halo is from memory, but for these.
KIND = {"Abell 2751": "arXiv:1707.03517", "Abell 3164": "arXiv:2106.12281"}

# The version is known of one label alone: the published paper has no such halo.
VERSION = {"Abell S1121": "v1"}

OUTSIDE = ("arXiv:1707.03517, which the list cites, does not cover it (45 x 45 deg around 0h -27 deg); "
           "arXiv:2106.12281 is the likely one")
GENERATOR = "among the halos of the paper's generator, among those without one of its classifier"
NO_CLUSTER = "not a cluster"
CONFLICTS = [
    ("a double relic in arXiv:2106.12281", ["Abell 3186"]),
    ("a candidate dead radio galaxy in arXiv:1707.03517v1", ["Abell 0122"]),
    ("a new halo in arXiv:1707.03517v1, not among those of the published version", ["Abell 2811", "Abell S1121"]),
    (OUTSIDE, ["Abell 3186", "Abell 3399", "PSZ1 G287.95-32.98", "MCXC J0145.2-6033", "RXC J0137.2-0912"]),
    (GENERATOR, ["Abell 0168", "Abell 0550", "Abell 1631", "Abell 2751", "Abell 3164", "Abell 3365", "Abell S0405",
                 "Abell S1099", "AqrCC 087"]),
    (NO_CLUSTER, ["3C 136.1", "3C 315", "NGC 326", "PKS 2014-55", "ORC 1", "ORC 2", "ORC 3", "ORC 4", "ORC 5"]),
    ("same sky as ORC 3 of the training set, 0.030 deg away", ["ORC 2"]),
    ("same sky as ORC 2 of the test set, 0.030 deg away", ["ORC 3"]),
    ("shares sky with Abell 141, which has a halo, 0.747 deg away", ["ORC 5"]),
    ("shares sky with ORC 5, which has none, 0.747 deg away", ["Abell 0141"]),
    ("image overlaps that of Abell 2751 of the training set, 1.080 deg away", ["Abell 2744"]),
    ("image overlaps that of Abell 2744 of the test set, 1.080 deg away", ["Abell 2751"]),
]

NOTES = {
    "Abell 0141": "halo of about 850 kpc, alpha(88-943 MHz) = -1.06 +- 0.09 (arXiv:2103.08282)",
    "Abell 3404": "halo of about 770 kpc, alpha(88-1110 MHz) = -1.66 +- 0.07 (arXiv:2103.08282)",
    "Abell S1063": "halo confirmed elsewhere (memory)",
    "MACS J2243.4-0935": "usual name MACS J2243.3-0935; halo by Cantwell et al. 2016 (memory)",
    "Abell 2254": "the public 103-134 MHz image is not clipped",
    "Abell 2744": "halo of more than 2 Mpc (arXiv:2505.05415)",
    "PLCK G287.0+32.9": "halo of more than 2 Mpc (arXiv:2505.05415)",
    "Abell 2680": "redshift unsure",
    "Abell 2693": "redshift unsure",
    "PSZ1 G287.95-32.98": "two public bands are clipped below 3 sigma",
    "GMBCG J357.91841-08.97978": "PSZ2 centre (WHL J357.962-8.991) 1.5 arcmin from the image's",
    "Abell 0122": "the public 170-231 MHz image is under-clipped",
    "RXC J0137.2-0912": "spelt rxc j01377.2-0912 in the list",
    "Abell 0085": "PSZ2 centre 4.4 arcmin from the image's",
    "Abell 0168": "PSZ2 centre 5.9 arcmin from the image's",
    "Abell 0112": "kind not verified",
    "Abell 0550": "kind not verified",
    "Abell 1631": "kind not verified; PSZ2 (RXC J1253.2-1522) 8.2 arcmin from the image's centre, its error 6.3 arcmin",
    "Abell 3164": "head-tail of several episodes; PSZ2 centre 6.0 arcmin from the image's",
    "Abell 3365": "double relic (memory)",
    "Abell S0405": "kind not verified",
    "Abell S1099": "kind not verified; redshift unsure",
    "AqrCC 087": "kind not verified",
    "3C 136.1": "X-shaped",
    "3C 315": "X-shaped; three public bands are badly clipped",
    "NGC 326": "X-shaped",
    "PKS 2014-55": "giant, X-shaped",
    "ORC 4": "two public bands are almost not clipped",
}


def table():
    """Return the table, without group, which `load_targets` adds."""
    (number, name, ra, dec, redshift, psz2, mass, upper, lower, word, paper, data, folder) = map(
        np.array, zip(*TARGETS, strict=True))
    known = set(name)
    assert all(set(names) <= known for names in (ALSO, KIND, VERSION, NOTES, *(n for _, n in CONFLICTS)))
    halo, in_psz2 = number > 0, psz2 != ""
    label, also, grade = map(np.array, zip(*(classify(w) for w in word), strict=True))
    also = [", ".join(filter(None, [a, ALSO.get(n, ("",))[0]])) for a, n in zip(also, name, strict=True)]
    kind = [KIND.get(n, "memory") for n in name]
    memory = {
        "redshift": np.isfinite(redshift) & ~in_psz2,
        "label": ~halo & (np.array(kind) == "memory"),
        "grade": ~halo & (np.array(kind) == "memory"),
        "also": np.array([ALSO.get(n, ("", ""))[1] == "memory" for n in name]),
    }
    label_source = [
        (f"Halos_List.pdf in the history of {REPOSITORY}" if h else f"folder of {REPOSITORY}; kind: {k}")
        + (f"; also: {ALSO[n][1]}" if n in ALSO else "") for n, h, k in zip(name, halo, kind, strict=True)]
    conflict = ["; ".join(text for text, names in CONFLICTS if n in names) for n in name]
    result = QTable({
        "name": name, "ra": ra * u.deg, "dec": dec * u.deg, "redshift": redshift,
        "m500": mass * 1e14 * u.Msun, "m500_err_up": upper * 1e14 * u.Msun, "m500_err_lo": lower * 1e14 * u.Msun,
        "psz2_name": [f"PSZ2 {p}" if p else "" for p in psz2],
        "paper_class": word, "label": label, "also": also, "grade": grade,
        "is_cluster": np.isin(name, dict(CONFLICTS)[NO_CLUSTER], invert=True),
        "conflict": conflict, "in_talk": halo, "talk_number": number,
        "paper": [f"arXiv:{p or '2411.15559'}" for p in paper],
        "paper_version": [VERSION.get(n, "unknown") for n in name],
        "data_source": data, "repository_split": folder,
        "position_source": [f"CRVAL of the GLEAM images of {REPOSITORY}, commit ef0009a4"] * len(name),
        "redshift_source": np.where(in_psz2, PSZ2, np.where(np.isfinite(redshift), "memory", "")),
        "m500_source": np.where(in_psz2, f"{PSZ2}, MSZ, statistical errors", ""),
        "label_source": label_source,
        "from_memory": [",".join(k for k, rows in memory.items() if rows[i]) for i in range(len(name))],
        "note": [NOTES.get(n, "") for n in name],
    })
    for column in ("m500", "m500_err_up", "m500_err_lo"):
        result[column] = result[column].to(1e14 * u.Msun).round(3)
    result.meta["comments"] = ["The targets of arXiv:2411.15559; made by tools/make_targets.py.",
                               "Values whose source is 'memory' were not looked up; nor was the number of "
                               "arXiv:2106.12281, whose abstract was."]
    return result


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "halopy" / "data"
    write_atomically(folder / "clusters.ecsv",
                     lambda path: table().write(path, format="ascii.ecsv", overwrite=True, delimiter=","))
