"""A training run that can be killed, and continued to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialised

from halopy.cutouts import remove_unfinished, write_atomically
from halopy.errors import HaloInputError

__all__ = ["copied", "read_checkpoint", "tensors_from", "write_checkpoint"]

SCHEMA = 1


def write_checkpoint(path, run, token):
    """Write a run as one safetensors file.

    Parameters
    ----------
    path : str or path
    run : object
        With ``tensors``, a method that returns the run's own tensors in groups, ``{"network": {name: tensor}}``;
        ``rows``, its history; ``counts``, numbers by name that it goes on from; ``device``.
    token : dict
        JSON that tells this run from any other.
    """
    arrays = {f"{part}.{k}": _array(v) for part, tensors in run.tensors().items() for k, v in tensors.items()}
    arrays["history"] = np.array(run.rows, dtype=float)
    arrays["random"] = torch.get_rng_state().numpy()
    device = run.device
    if device.type == "cuda":
        arrays["random.device"] = torch.cuda.get_rng_state(device).numpy()
    text = json.dumps({"schema": SCHEMA, "token": token} | run.counts)
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
        schema, found, counts = header["schema"], header["token"], {name: int(header[name]) for name in run.counts}
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
    run.counts = counts


def _restore(run, arrays):
    with torch.no_grad():
        for part, own in run.tensors().items():
            for name, tensor in tensors_from(arrays, f"{part}.", own).items():
                own[name].copy_(tensor)
    like = {"history": None, "random": torch.get_rng_state()}
    device = run.device
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


def copied(state):
    """Return tensors by name as copies."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _array(tensor):
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
