"""A training run that can be killed, and continued to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialised
from torch import nn

from halopy.cutouts import remove_unfinished, write_atomically
from halopy.errors import HaloInputError

__all__ = ["Run", "read_checkpoint", "tensors_from", "write_checkpoint"]

SCHEMA = 1
COUNTS = ("epoch", "images", "stale", "steps")
DECAY = (0.9, 0.999)
EPSILON = 1e-8


class Run:
    """The state of a training run: network, optimiser, the best weights so far, and the history.

    The optimiser is AdamW. It is written out, as torch's own imports torch's compiler, which takes seconds.

    Parameters
    ----------
    network : `torch.nn.Module`
        Turns images into logits, ``(n,)``, or ``(n, members)`` where several are trained at once.
    learning_rate, weight_decay : float
        Of AdamW.

    References
    ----------
    Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2; Kingma & Ba 2015, arXiv:1412.6980, for the
    decay rates 0.9 and 0.999 of the moments.
    """

    def __init__(self, network, learning_rate, weight_decay):
        self.network = network
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.moments = {f"{i}.{name}": torch.zeros_like(p) for name, p in network.named_parameters() for i in (1, 2)}
        self.best = _copied(network.state_dict())
        self.rows = []
        self.epoch = self.images = self.stale = self.steps = 0

    def step(self, images, targets, weight):
        """Take one step down the gradient; returns the logits, of several members their mean."""
        self.network.train()
        logits = self.network(images)
        members = logits.reshape(len(targets), -1)
        loss = nn.functional.binary_cross_entropy_with_logits(
            members, targets[:, None].expand_as(members), weight=weight[targets.long()][:, None])
        names, parameters = zip(*self.network.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        self.steps += 1
        with torch.no_grad():
            # One odd batch must not throw the network far off: gradients are scaled to a norm of 1 at most.
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
                gradient = gradient / norm.clamp(min=1)
                mean = self.moments[f"1.{name}"].lerp_(gradient, 1 - DECAY[0])
                square = self.moments[f"2.{name}"].lerp_(gradient.square(), 1 - DECAY[1])
                scale = (square / (1 - DECAY[1] ** self.steps)).sqrt() + EPSILON
                parameter.mul_(1 - self.learning_rate * self.weight_decay)
                parameter.sub_(self.learning_rate / (1 - DECAY[0] ** self.steps) * mean / scale)
        return members.detach().mean(dim=1)

    def end_epoch(self, row, images):
        """Count an epoch, and keep its weights if it is the best; without held-out groups the last is."""
        self.rows.append(row)
        self.epoch, self.images = self.epoch + 1, images
        losses = [r[3] for r in self.rows] if len(row) > 3 else []
        if not losses or losses[-1] <= min(losses):
            self.best, self.stale = _copied(self.network.state_dict()), 0
        else:
            self.stale += 1


def write_checkpoint(path, run, token):
    """Write a run as one safetensors file; ``token`` (JSON) tells this run from any other."""
    arrays = {f"network.{k}": _array(v) for k, v in run.network.state_dict().items()}
    arrays |= {f"best.{k}": _array(v) for k, v in run.best.items()}
    arrays |= {f"moment.{k}": _array(v) for k, v in run.moments.items()}
    arrays["history"] = np.array(run.rows, dtype=float)
    arrays["random"] = torch.get_rng_state().numpy()
    device = _device(run)
    if device.type == "cuda":
        arrays["random.device"] = torch.cuda.get_rng_state(device).numpy()
    text = json.dumps({"schema": SCHEMA, "token": token} | {name: getattr(run, name) for name in COUNTS})
    content = serialised(arrays, metadata={"halopy-checkpoint": text})
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))


def read_checkpoint(path, run, token):
    """Bring a run to where a file left it; without a file it stays at its start.

    What a killed process had not finished writing is removed.

    Raises
    ------
    HaloInputError
        The file is broken, or of a run with other settings, cutouts or rng.
    """
    path = Path(path)
    remove_unfinished(path)
    if not path.exists():
        return
    try:
        with safe_open(path, framework="numpy") as stream:
            text = (stream.metadata() or {}).get("halopy-checkpoint")
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # numpy has no bfloat16
        raise HaloInputError(f"not a readable checkpoint: {error}", path=path,
                             hint="delete it to start again") from error
    try:
        header = json.loads(text or "")
        schema, found, counts = header["schema"], header["token"], {name: int(header[name]) for name in COUNTS}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HaloInputError("this safetensors file is no checkpoint of halopy", path=path,
                             hint="checkpoint= is for a run; Model.load reads a trained model") from error
    if schema != SCHEMA:
        raise HaloInputError(f"this checkpoint has schema {schema}, this halopy reads {SCHEMA}", path=path)
    wrong = [name for name in token if not isinstance(found, dict) or found.get(name) != token[name]]
    if wrong:
        raise HaloInputError("this checkpoint is of another run, with another " + ", ".join(wrong), path=path,
                             hint="the settings, cutouts and rng (a seed) of that run, or another file")
    try:
        _restore(run, arrays)
    except HaloInputError as error:
        error.path = path
        raise
    for name, value in counts.items():
        setattr(run, name, value)


def _restore(run, arrays):
    weights = run.network.state_dict()
    run.network.load_state_dict(tensors_from(arrays, "network.", weights))
    run.best = tensors_from(arrays, "best.", weights)
    for name, moment in tensors_from(arrays, "moment.", run.moments).items():
        run.moments[name].copy_(moment)
    like = {"history": None, "random": torch.get_rng_state()}
    device = _device(run)
    if device.type == "cuda":
        like["random.device"] = torch.cuda.get_rng_state(device)
    missing = [name for name in like if name not in arrays]
    if missing:
        raise HaloInputError("an array is missing", keyword=missing[0], found=sorted(arrays))
    run.rows = np.asarray(arrays["history"], dtype=float).tolist()
    for name in list(like)[1:]:
        if arrays[name].shape != tuple(like[name].shape) or arrays[name].dtype != np.uint8:
            raise HaloInputError("this is no state of a random generator of this torch", keyword=name,
                                 found=arrays[name].shape)
    torch.set_rng_state(torch.from_numpy(arrays["random"].copy()))
    if device.type == "cuda":
        torch.cuda.set_rng_state(torch.from_numpy(arrays["random.device"].copy()), device)


def tensors_from(arrays, prefix, like):
    """Return the arrays under a prefix as tensors, if they are those of ``like``: names, shapes, finite numbers.

    Parameters
    ----------
    arrays : mapping
        numpy arrays by name.
    prefix : str
        Names start with it.
    like : mapping
        Tensors of the right shape and dtype by name, without the prefix.

    Raises
    ------
    HaloInputError
        Names the array that does not fit.
    """
    own = {name.removeprefix(prefix) for name in arrays if name.startswith(prefix)}
    odd = sorted(own ^ set(like))
    if odd:
        what = "is missing" if odd[0] in like else "belongs to no part of this network"
        raise HaloInputError(f"an array {what}", keyword=prefix + odd[0], hint="the file of this model and this width")
    result = {}
    for name, tensor in like.items():
        array = arrays[prefix + name]
        if array.shape != tuple(tensor.shape):
            raise HaloInputError(f"an array must have the shape {tuple(tensor.shape)}", keyword=prefix + name,
                                 found=array.shape)
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise HaloInputError("the weights must be finite", keyword=prefix + name)
        result[name] = torch.from_numpy(np.array(array)).to(tensor)
    return result


def _copied(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _array(tensor):
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _device(run):
    return next(run.network.parameters()).device
