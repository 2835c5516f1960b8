"""Adversarial generators: a painter of images, and a critic that tells them from real ones."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from importlib.resources import as_file, files
from numbers import Real

import numpy as np
import torch
from torch.nn import functional

from halopy.errors import HaloInputError, HalopyWarning
from halopy.generative.conditions import CLASSES, N_NUMBERS
from halopy.generative.gan_networks import Critic, Painter
from halopy.generative.run import Run
from halopy.generative.trained import CHUNK, TrainedGenerator
from halopy.learning.checkpoint import copied
from halopy.learning.inputs import has_signal
from halopy.learning.optimiser import AdamW
from halopy.learning.threads import one_thread

__all__ = ["SpectralGAN", "WassersteinGAN"]

SMOOTH = 2 / 3
"""Beams: how wide the smoothing of made images is. Compressed, faint noise is as smooth as the beam."""
COARSE = 8
"""Pixels that are averaged before the differences between images are measured, so that noise does not count."""
MONITORED = 32
"""Images of a class whose diversity is watched."""
COLLAPSED = 0.2
"""Below this fraction of the diversity of real images of its class a class has collapsed."""
EARLY = 500
"""Steps in which images may still have to become different."""


class _Adversarial(TrainedGenerator):
    """A painter, and a critic; what they play for is in the subclasses."""

    _columns = ("critic_loss", "painter_loss", "diversity")
    _decay = (0.0, 0.9)
    _spectral = False
    _critic_rate = 1.0

    def __init__(self, *, size=64, pixels_per_beam=3.0, width=32, latent=128, shift=4, n_images=200_000, batch_size=16,
                 learning_rate=1e-4, average=0.999, device="cpu"):
        self.size = size
        self.pixels_per_beam = pixels_per_beam
        self.width = width
        self.latent = latent
        self.shift = shift
        self.n_images = n_images
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.device = device

    n_critic: int

    @abstractmethod
    def _critic_loss(self, critic, real, made, conditions):
        """Return what the critic makes small, of images that are shifted alike."""

    def critic_features(self, cutouts):
        """Return what the trained critic sees in cutouts, before it is told what they are said to show.

        Parameters
        ----------
        cutouts : CutoutSet
            ``(n, ny, nx)``, of any survey whose beam is known.

        Returns
        -------
        `~numpy.ndarray`
            ``(n, 4 * width)`` float64, the mean of its eight turned and mirrored views; NaN where a cutout shows
            nothing.
        """
        images = self.compressed(cutouts)
        result = np.full((len(images), 4 * self.width), np.nan)
        rows = np.flatnonzero(has_signal(images))
        with torch.inference_mode(), one_thread():
            for part in np.split(rows, range(CHUNK, len(rows), CHUNK)) if len(rows) else ():
                batch = torch.as_tensor(images[part], device=self.device)[:, None]
                views = [torch.rot90(x, k, (2, 3)) for x in (batch, batch.flip(3)) for k in range(4)]
                seen = [self._networks["critic"].features(view).double() for view in views]
                result[part] = (sum(seen) / len(seen)).cpu().numpy()
        return result

    def _check(self):
        super()._check()
        for name, least in (("latent", 1), ("shift", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, (int, np.integer)) and value >= least):
                raise HaloInputError(f"{name} must be a whole number of {least} or more", found=value)
        if not (isinstance(self.average, Real) and 0 <= self.average < 1):
            raise HaloInputError("average must be in [0, 1)", found=self.average)

    def _run(self):
        painter = Painter(self.size, self.width, self.latent, N_NUMBERS, SMOOTH * (self.pixels_per_beam or 0))
        critic = Critic(self.size, self.width, N_NUMBERS, spectral=self._spectral)
        networks = {name: network.to(device=self.device, memory_format=torch.channels_last)
                    for name, network in (("painter", painter), ("critic", critic))}
        optimisers = {name: AdamW(network, self.learning_rate, decay=self._decay) for name, network in networks.items()}
        return Run(networks, optimisers, "painter", self.average, {"critic": self._critic_rate})

    def _step(self, run, images, conditions):
        painter, critic = (run.networks[name].train() for name in ("painter", "critic"))
        losses = []
        for _ in range(self.n_critic):
            with torch.no_grad():
                made = painter(painter.draw(len(images)), conditions)
            real, fake = self._shifted(images, made)
            losses.append(run.step("critic", self._critic_loss(critic, real, fake, conditions)))
        made = painter(painter.draw(len(images)), conditions)
        loss = run.step("painter", -critic(self._shifted(made)[0], conditions).mean())
        return [float(np.mean(losses)), loss]

    def _shifted(self, *sets):
        """Return sets of images, each image moved at random by up to ``shift`` pixels.

        A critic of few images learns them by heart if it always sees them in one place.
        """
        if not self.shift:
            return sets
        result = []
        for images in sets:
            padded = functional.pad(images, (self.shift,) * 4)
            places = torch.randint(2 * self.shift + 1, (len(images), 2)).tolist()
            result.append(torch.stack([image[:, y:y + self.size, x:x + self.size]
                                       for image, (y, x) in zip(padded, places, strict=True)]))
        return result

    def _end_block(self, run, images, conditions, train, test):
        """Measure the diversity of made images; where a class has collapsed, end with the weights before."""
        least, name = self._diversity(run, images, conditions, train)
        reached = max((row[3] for row in run.rows), default=0.0)
        if least >= COLLAPSED:
            run.keep()
        elif reached >= 2 * COLLAPSED or run.images >= max(self.n_images / 4, EARLY * self.batch_size):
            if reached < COLLAPSED:
                run.keep()
                kept = "it never varied more"
            else:
                kept = f"the weights of {int(max(row[0] for row in run.rows if row[3] >= COLLAPSED))} images are kept"
            warnings.warn(f"the generator has collapsed after {run.images} images: what it makes of {name!r} differs "
                          f"from image to image by {least:.2g} of what real images do, and must by {COLLAPSED}; the "
                          f"training has stopped, {kept}. More or more different images, a wider shift or a smaller "
                          "learning_rate may help", HalopyWarning, stacklevel=5)
            run.stale = 1
        elif reached < COLLAPSED:
            run.keep()
        return [least], not run.stale

    def _stopped(self, run):
        return bool(run.stale)

    def _diversity(self, run, images, conditions, train):
        """Return the least diversity of the images of a class over that of real ones, and that class."""
        painter = run.networks["painter"]
        trained = copied(painter.state_dict())
        painter.load_state_dict(run.average)
        generator = torch.Generator().manual_seed(0)
        classes, found = conditions[train, :len(CLASSES)].argmax(dim=1), []
        with torch.inference_mode():
            for k in classes.unique().tolist():
                rows = train[(classes == k).nonzero()[:MONITORED, 0]]
                real = diversity(images[rows]) if len(rows) > 1 else 0
                if real > 0:
                    made = self._paint({"painter": painter.eval()}, conditions[rows], generator)
                    found.append((diversity(made) / real, CLASSES[k]))
        painter.load_state_dict(trained)
        return min(found, default=(1.0, ""))

    def _paint(self, networks, conditions, generator):
        return networks["painter"](networks["painter"].draw(len(conditions), generator), conditions)


class WassersteinGAN(_Adversarial):
    """Conditional Wasserstein GAN with gradient penalty: the critic measures how far made images are from real ones.

    Parameters
    ----------
    size : int, optional
        Pixels a side, default 64; a multiple of 16.
    pixels_per_beam : float or None, optional
        Scale of the images, default 3; None: the cutouts' own grid.
    width : int, optional
        Channels of the last level of the painter and the first of the critic, default 32; a multiple of 8.
    latent : int, optional
        How many latent numbers an image is made of, default 128.
    shift : int, optional
        Real and made images are moved by up to so many pixels before the critic sees them, default 4.
    n_images : int, optional
        How many images are shown in a training, counted by steps of the painter, default 200,000. The critic sees
        ``n_critic`` times as many.
    batch_size, learning_rate : int, float, optional
        Default 16 and 0.0001.
    average : float, optional
        Decay of the averaged weights of the painter, default 0.999.
    n_critic : int, optional
        Steps of the critic for each of the painter, default 5.
    penalty : float, optional
        Weight of the gradient penalty, default 10.
    device : str, optional
        A device of torch, default ``"cpu"``.

    Attributes
    ----------
    history : `~astropy.table.QTable`
        ``images`` shown, ``critic_loss``, ``painter_loss``, and ``diversity``: how far the images of one class differ
        from each other on scales of 8 pixels, over real ones; the least of all classes.

    Warns
    -----
    HalopyWarning
        A class has collapsed: its diversity has fallen below 0.2, or has not come that far in a quarter of the
        training (and 500 steps). The training stops, and the weights before are kept.

    Notes
    -----
    Conditions and samples are those of `~halopy.generative.trained.TrainedGenerator`.

    References
    ----------
    Gulrajani et al. 2017, arXiv:1704.00028 (the penalty, n_critic and the optimiser); Mirza & Osindero 2014,
    arXiv:1411.1784 (conditions); Zhao et al. 2020, arXiv:2006.10738 (shifts of real and made images).

    Examples
    --------
    >>> from halopy import generators
    >>> generators.create("cwgan", n_images=50_000)
    WassersteinGAN(n_images=50000)
    """

    def __init__(self, *, size=64, pixels_per_beam=3.0, width=32, latent=128, shift=4, n_images=200_000, batch_size=16,
                 learning_rate=1e-4, average=0.999, n_critic=5, penalty=10.0, device="cpu"):
        super().__init__(size=size, pixels_per_beam=pixels_per_beam, width=width, latent=latent, shift=shift,
                         n_images=n_images, batch_size=batch_size, learning_rate=learning_rate, average=average,
                         device=device)
        self.n_critic = n_critic
        self.penalty = penalty

    @classmethod
    def pretrained(cls):
        """Return the generator with the weights that ship with halopy; its model card is in the documentation."""
        with as_file(files("halopy") / "data" / "cwgan.safetensors") as path:
            return cls.load(path)

    def _critic_loss(self, critic, real, made, conditions):
        distance = critic(made, conditions).mean() - critic(real, conditions).mean()
        return distance + self.penalty * gradient_penalty(critic, real, made, conditions)

    def _check(self):
        super()._check()
        if isinstance(self.n_critic, bool) or not (isinstance(self.n_critic, (int, np.integer)) and self.n_critic >= 1):
            raise HaloInputError("n_critic must be a whole number of 1 or more", found=self.n_critic)
        if not (isinstance(self.penalty, Real) and 0 <= self.penalty < np.inf):
            raise HaloInputError("penalty must be 0 or more", found=self.penalty)


class SpectralGAN(_Adversarial):
    """Conditional GAN with a spectrally normalised critic and hinge loss: one step each, a quarter of the cost.

    Parameters
    ----------
    size, pixels_per_beam, width, latent, shift, n_images, batch_size, average, device
        As of `WassersteinGAN`.
    learning_rate : float, optional
        Of the painter, default 0.0001; that of the critic is four times as high.

    Attributes
    ----------
    history : `~astropy.table.QTable`
        As of `WassersteinGAN`.

    Warns
    -----
    HalopyWarning
        A class has collapsed, as of `WassersteinGAN`.

    Notes
    -----
    Prone to collapse: of the many labels of simulated sky it comes to make nearly the same image of each, says so and
    stops. `WassersteinGAN` does not.

    References
    ----------
    Miyato et al. 2018, arXiv:1802.05957 (spectral norm); Lim & Ye 2017, arXiv:1705.02894 (hinge loss); Heusel et al.
    2017, arXiv:1706.08500 (two learning rates).

    Examples
    --------
    >>> from halopy import generators
    >>> generators.create("sngan", width=16)
    SpectralGAN(width=16)
    """

    n_critic = 1
    _spectral = True
    _critic_rate = 4.0

    def _critic_loss(self, critic, real, made, conditions):
        return (functional.relu(1 - critic(real, conditions)) + functional.relu(1 + critic(made, conditions))).mean()


def gradient_penalty(critic, real, made, conditions):
    """Return the mean of (‖∇‖ − 1)², of gradients at random places between real and made images.

    References
    ----------
    Gulrajani et al. 2017, arXiv:1704.00028, equation 3.
    """
    share = torch.rand((len(real), 1, 1, 1)).to(real.device)
    between = (real + share * (made - real)).detach().requires_grad_()
    gradient = torch.autograd.grad(critic(between, conditions).sum(), between, create_graph=True)[0]
    # The square root has no slope at 0.
    return ((gradient.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt() - 1).square().mean()


def diversity(images):
    """Return how far images ``(n, 1, ny, nx)`` differ from each other on scales larger than their noise."""
    return float(functional.avg_pool2d(images, COARSE).std(dim=0).mean())
