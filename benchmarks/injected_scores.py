"""What `injected_halos.py` measures of the scores of several models, its tables and its figure."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from astropy import units as u

from halopy.classify.bootstrap import group_bootstrap
from halopy.classify.metrics import recall_at_false_positive_rate, roc_auc

FIRST = "matched-filter"
SIMPLE = ("features-lr", "cnn")
"""Models that the tables by size leave out."""
EMPTY, OTHER, HALO, LEFT_OUT = range(4)
LEAST = 3.0
SNR, SIZE, FLUX = (3, 6, 12, 25, np.inf), (0, 0.5, 1, 2, np.inf), (0, 5, 15, 50, np.inf)
"""Edges of the cells: ideal S/N, e-folding radius in beams, mJy at 1.4 GHz."""
FINE = np.append(np.geomspace(3, 60, 8), np.inf)
FEW = 10
"""Halos in a cell, below which nothing is said."""
ROUNDS = 1000
METRICS = ("AUC, halos against all others", "recall, 1 % of the empty flagged", "recall, 1 % of all others flagged")


@dataclass
class Scores:
    """What all models say of cutouts, and what these are: a row a cutout."""

    models: list
    probability: np.ndarray
    kind: np.ndarray
    snr: np.ndarray
    size: np.ndarray
    flux: np.ndarray
    group: np.ndarray
    sky: np.ndarray

    @classmethod
    def of(cls, models, cutouts, sky):
        """Score cutouts with ``{name: function of cutouts}``."""
        table = cutouts.table
        label = np.asarray(table["label"]).astype(str)
        nothing = np.full(len(table), np.nan)
        radius = table["r_e"].to_value(u.arcsec) if "r_e" in table.colnames else nothing
        flux = table["flux"].to_value(u.mJy) if "flux" in table.colnames else nothing
        size = radius / np.sqrt(table["beam_major"] * table["beam_minor"]).to_value(u.arcsec)
        snr = ideal(flux / table["rms"].to_value(u.mJy / u.beam), size)
        kind = np.full(len(table), OTHER)
        kind[np.isin(label, ["none", "blank"])] = EMPTY
        kind[label == "halo"] = np.where(snr[label == "halo"] >= LEAST, HALO, LEFT_OUT)
        kind[label == "mini-halo"] = LEFT_OUT
        found = np.column_stack([score(cutouts) for score in models.values()])
        return cls(list(models), np.where(np.isfinite(found), found, -1.0), kind, snr, size, flux,
                   np.asarray(table["group"]).astype(str), np.broadcast_to(sky, len(table)).astype(str))

    def __getitem__(self, rows):
        return Scores(self.models, *(getattr(self, name)[rows] for name in list(self.__dataclass_fields__)[1:]))

    def __add__(self, other):
        return Scores(self.models, *(np.concatenate([getattr(self, name), getattr(other, name)])
                                     for name in list(self.__dataclass_fields__)[1:]))

    def cells(self, values, edges, sizes=None):
        """The number of each row's cell: by a value, and within it by size."""
        cell = np.searchsorted(edges, values, side="right") - 1
        return cell if sizes is None else cell * (len(sizes) - 1) + np.searchsorted(sizes, self.size, side="right") - 1

    def measured(self, cell, n_cells, seed):
        """Return value, low and high, ``(2, models, 3 + 2 n_cells)``: of each model, and its distance from the first.

        The last axis: `METRICS`; the recall in the cells with 1 % of the empty, and of all others, flagged.
        """
        known = self.kind != LEFT_OUT
        cell = np.where(self.kind == HALO, cell, -1)[known]

        def statistic(probability, kind, cell):
            return relative(np.array([figures(p, kind, cell, n_cells) for p in probability.T]))

        return group_bootstrap(statistic, self.group[known], self.probability[known], self.kind[known], cell, n=ROUNDS,
                               strata=self.kind[known] == HALO, rng=seed)


def figures(probability, kind, cell, n_cells):
    """Return the metrics and the recall in each cell, NaN where it has no halo."""
    halo, numbers, cells = kind == HALO, [roc_auc(probability, kind == HALO)], []
    for among in (kind != OTHER, np.ones(len(kind), bool)):
        numbers.append(recall_at_false_positive_rate(probability[among], halo[among]))
        others = np.sort(probability[among & ~halo])[::-1]
        found = probability[halo] > others[len(others) // 100]
        total = np.bincount(cell[halo], minlength=n_cells).astype(float)
        total[total == 0] = np.nan
        cells.append(np.bincount(cell[halo], found, minlength=n_cells) / total)
    return np.concatenate([numbers, *cells])


def relative(values):
    """Stack the numbers of the models, and how far they are from those of the first."""
    return np.stack([values, values - values[:1]])


def ideal(flux, size):
    """Return the S/N of a filter that knows place, size and shape of a smooth round halo, in noise alone.

    ``flux`` is over the rms, ``size`` the e-folding radius in beams; the noise is correlated as far as the beam.
    """
    with np.errstate(divide="ignore"):
        return flux * np.exp(np.interp(np.log(size), *np.log(_of_unit_flux())))


@functools.cache
def _of_unit_flux():
    """Return sizes and the ideal S/N of a flux of 1; in Fourier space, where an exponential disc is a power law."""
    size, k = np.geomspace(0.01, 20, 60), np.linspace(1e-4, 4, 20000)
    beam = np.exp(-(np.pi * k) ** 2 / (4 * np.log(2))) * np.pi / (4 * np.log(2))
    noise = 2 * beam**2 / beam[0]  # of an rms of 1
    template = (1 + (2 * np.pi * k * size[:, None]) ** 2) ** -1.5 * beam
    power = template**2 * 2 * np.pi * k
    return size, np.trapezoid(power, k) / np.sqrt(np.trapezoid(power * noise, k))


def numbers(value, low, high, sign=""):
    return f"{value:{sign}.3f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def show(title, populations, seed, *, by_flux=False):
    """Print all tables of one kind of sky."""
    rows = {name: s.cells(s.snr, SNR, SIZE) for name, s in populations.items()}
    n_cells = (len(SNR) - 1) * (len(SIZE) - 1)
    measured = {name: s.measured(rows[name], n_cells, seed) for name, s in populations.items()}
    print(f"{title}\n")
    for name, s in populations.items():
        kinds = [np.sum(s.kind == k) for k in (HALO, EMPTY, OTHER)]
        print(f"  {name + ':':9s}{kinds[0]} halos, {kinds[1]} empty, {kinds[2]} with something else; "
              f"left out: {np.sum(s.kind == LEFT_OUT)} halos below S/N {LEAST:g} and mini-halos")
    for k, metric in enumerate(METRICS):
        print(f"\n  {metric}")
        print(f"  {'':18s}" + "".join(f"{name:>20s}{'less ' + FIRST:>23s}" for name in populations))
        for m, model in enumerate(next(iter(populations.values())).models):
            line = f"  {model:18s}"
            for found in measured.values():
                line += f"{numbers(*(a[0, m, k] for a in found)):>20s}"
                line += f"{numbers(*(a[1, m, k] for a in found), '+') if m else '':>23s}"
            print(line.rstrip())
    for kind, offset in (("empty", 3), ("all others", 3 + n_cells)):
        grid(f"recall, 1 % of {kind} flagged", populations, rows, measured, offset, SNR, "ideal S/N")
    if by_flux:
        rows = {name: s.cells(s.flux, FLUX, SIZE) for name, s in populations.items()}
        measured = {name: s.measured(rows[name], n_cells, seed) for name, s in populations.items()}
        grid("recall, 1 % of empty flagged", populations, rows, measured, 3, FLUX, "mJy")
    print()


def grid(title, populations, rows, measured, offset, edges, unit):
    """Print the recall by S/N or flux and by size."""
    n_sizes = len(SIZE) - 1
    print(f"\n  {title}, by r_e in beams (+, -: the difference from {FIRST} is significant)")
    ends = ["< 0.5", "0.5-1", "1-2", "> 2"]
    print(f"  {unit:>9s} {'':20s}" + "   ".join(f"{name:>7s}" + "".join(f"{e:>7s}" for e in ends)
                                              for name in populations))
    for i in range(len(edges) - 1):
        span = f"{edges[i]:g}-{edges[i + 1]:g}" if np.isfinite(edges[i + 1]) else f"> {edges[i]:g}"
        for m, model in enumerate(["halos", *next(iter(populations.values())).models]):
            if model in SIMPLE:
                continue
            line = f"  {span if not m else '':>9s} {model:20s}"
            for name, s in populations.items():
                line += f"{'':7s}"
                for cell in range(i * n_sizes, (i + 1) * n_sizes):
                    n = np.sum((rows[name] == cell) & (s.kind == HALO))
                    value, low, high = (a[:, m - 1, offset + cell] for a in measured[name])
                    mark = "+" if low[1] > 0 else "-" if high[1] < 0 else " "
                    line += f"{n:6d} " if not m else f"{value[0]:6.2f}{mark}" if n >= FEW else f"{'.':>6s} "
                line += "   "
            print(line.rstrip())


def by_survey(populations, seed):
    """Print the recall in each survey, with its own limits."""
    skies = np.unique(np.concatenate([s.sky for s in populations.values()]))
    print(f"  recall, 1 % of all others of that survey flagged\n  {'':42s}"
          + "".join(f"{name:>20s}" for name in populations))
    for sky in skies:
        parts = {name: s[s.sky == sky] for name, s in populations.items()}
        found = {name: s.measured(s.cells(s.snr, SNR), len(SNR) - 1, seed) for name, s in parts.items()}
        for m, model in enumerate(next(iter(parts.values())).models):
            print(f"  {sky if not m else '':24s}{model:18s}" + "".join(
                f"{numbers(*(a[0, m, 2] for a in f)):>20s}" for f in found.values()))
    print()


def draw(path, skies, seed):
    """Draw the recall against the ideal S/N, and the intervals of the first model and of the last."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    figure, axes = plt.subplots(len(skies), 2, figsize=(8, 3.2 * len(skies)), sharex=True, sharey=True, squeeze=False,
                                layout="constrained")
    middle = np.sqrt(FINE[:-1] * np.append(FINE[1:-1], 90))
    for row, (title, populations) in zip(axes, skies.items(), strict=True):
        for ax, (name, s) in zip(row, populations.items(), strict=True):
            cell = s.cells(s.snr, FINE)
            many = np.bincount(cell[s.kind == HALO], minlength=len(middle)) >= FEW
            found = [a[0][:, 3:3 + len(middle)] for a in s.measured(cell, len(middle), seed)]
            for m, (model, value, low, high) in enumerate(zip(s.models, *found, strict=True)):
                colour = "black" if m == 0 else f"C{m - 1}"
                ax.plot(middle[many], value[many], "-" if m else "--", color=colour, marker=".", label=model)
                if m in (0, len(s.models) - 1):
                    ax.fill_between(middle[many], low[many], high[many], color=colour, alpha=0.15, linewidth=0)
            ax.set(xscale="log", ylim=(0, 1.02))
            ax.set_title(f"{title}, {name} population", fontsize=10)
            ax.set_xticks([3, 6, 12, 25, 60], ["3", "6", "12", "25", "60"])
            ax.minorticks_off()
            ax.grid(alpha=0.3)
        row[0].set_ylabel("recall, 1 % of empty flagged")
        row[1].legend(loc="lower right", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("ideal S/N")
    figure.savefig(path, dpi=90)
    plt.close(figure)
    with Image.open(path) as image:  # as few colours as it needs
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
