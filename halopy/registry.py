"""The doors through which models are found: one `Registry` per entry-point group.

Names are listed without importing anything; asking for one imports exactly that one. halopy's own
models are declared in its setup.cfg, in the same groups as a third party's.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import warnings
from collections.abc import Mapping

from halopy.errors import HalopyWarning, MissingExtraError, PluginError, UnknownModelError

__all__ = ["Registry", "classifiers", "generators"]


class Registry(Mapping):
    """A read-only mapping from names to model classes, over one entry-point group.

    Parameters
    ----------
    group : str
        The entry-point group, for example ``"halopy.classifiers"``.
    base : str
        ``"module:class"`` of the contract that each entry must fulfil.
    what : str, optional
        What an entry is called in messages, default ``"model"``.

    Examples
    --------
    >>> from halopy import classifiers
    >>> "matched-filter" in classifiers
    True
    >>> classifiers.create("matched-filter")
    MatchedFilter()
    >>> classifiers["matched-filer"]
    Traceback (most recent call last):
    ...
    halopy.errors.UnknownModelError: no model 'matched-filer' in halopy.classifiers; did you mean 'matched-filter'? ...
    """

    _all: dict[str, Registry] = {}

    def __init__(self, group, base, *, what="model"):
        self.group = group
        self.base = base
        self.what = what
        Registry._all[group] = self

    @classmethod
    def of(cls, group):
        """Return the registry of an entry-point group."""
        if group not in cls._all:
            raise UnknownModelError(f"no registry {group!r}; there are: {', '.join(cls._all)}")
        return cls._all[group]

    @classmethod
    def import_class(cls, name):
        """Import the installed models whose class has this name, and no others."""
        for registry in cls._all.values():
            for entry in importlib.metadata.entry_points(group=registry.group):
                if entry.value.partition(":")[2].partition("[")[0].strip() == name:
                    registry._load(entry)

    def _entries(self):
        entries = {}
        for entry in importlib.metadata.entry_points(group=self.group):
            # The same distribution can be seen twice on sys.path; that is no clash.
            known = entries.setdefault(entry.name, [])
            if all((e.value, _owner(e)) != (entry.value, _owner(entry)) for e in known):
                known.append(entry)
        return dict(sorted(entries.items()))

    def __iter__(self):
        return iter(self._entries())

    def __len__(self):
        return len(self._entries())

    def __contains__(self, name):
        return name in self._entries()

    def __repr__(self):
        return f"<Registry {self.group}: {', '.join(self) or 'empty'}>"

    def __getitem__(self, name):
        entries = self._entries()
        if name not in entries:
            near = difflib.get_close_matches(str(name), entries, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            installed = ", ".join(entries) or "none"
            raise UnknownModelError(f"no {self.what} {name!r} in {self.group}{hint} installed: {installed}")
        found = entries[name]
        if len(found) > 1:
            owners = ", ".join(f"{e.value} from {_owner(e)}" for e in found)
            raise PluginError(f"the name {name!r} in {self.group} is taken more than once: {owners}; uninstall one")
        return self._load(found[0])

    def _load(self, entry):
        try:
            cls = entry.load()
        except ModuleNotFoundError as error:
            own = entry.value.split(":")[0].split(".")[0]
            if error.name and error.name.split(".")[0] != own:
                raise MissingExtraError(
                    f"{self.what} {entry.name!r} (from {_owner(entry)}) needs the module {error.name!r}, "
                    f"which is not installed; {_remedy(entry)}") from error
            raise self._broken(entry, error) from error
        except (Exception, SystemExit) as error:  # a plugin may raise anything while it is imported
            raise self._broken(entry, error) from error
        module, _, attribute = self.base.partition(":")
        base = getattr(importlib.import_module(module), attribute)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise PluginError(f"{self.what} {entry.name!r} ({entry.value}, from {_owner(entry)}) must be a subclass of "
                              f"{module}.{attribute}, found {cls!r}")
        return cls

    def _broken(self, entry, error):
        return PluginError(f"{self.what} {entry.name!r} ({entry.value}, from {_owner(entry)}) cannot be imported: "
                           f"{type(error).__name__}: {error}")

    def create(self, name, **settings):
        """Return a new instance of the model, with its constructor's settings."""
        model = self[name](**settings)
        model.registry_name_ = (self.group, name)
        return model

    def pretrained(self, name):
        """Return the model with the weights that ship with its package.

        Raises
        ------
        UnknownModelError
            The model ships none.
        """
        cls = self[name]
        if getattr(cls, "pretrained", None) is None:
            raise UnknownModelError(f"model {name!r} in {self.group} ships no weights; train it with fit(), "
                                    "or load your own file")
        model = cls.pretrained()
        model.registry_name_ = (self.group, name)
        return model

    def ready(self, name):
        """Return the model as it is used: with the weights that ship where there are any, else a new instance."""
        return (self.create if getattr(self[name], "pretrained", None) is None else self.pretrained)(name)

    def info(self):
        """Return a table: name, distribution, version, state. Imports every model.

        A broken plugin is a row with its error, and a warning; with the environment variable
        ``HALOPY_STRICT_PLUGINS=1`` it is raised. A model whose entry point names the extra that it
        needs, ``ring = ring_package:Ring [extra]``, is not broken where that extra is missing: its
        state says what to install.
        """
        from astropy.table import Table

        rows = []
        for name, entries in self._entries().items():
            state = "ok"
            try:
                self[name]
            except PluginError as error:
                state = str(error)
                if not (isinstance(error, MissingExtraError) and _extras(entries[0])):
                    if os.environ.get("HALOPY_STRICT_PLUGINS") == "1":
                        raise
                    warnings.warn(state, HalopyWarning, stacklevel=2)
            for entry in entries:
                dist = entry.dist
                rows.append((name, dist.name if dist else "?", dist.version if dist else "?", state))
        return Table(rows=rows, names=("name", "distribution", "version", "state"), dtype=(str, str, str, str))


def _owner(entry):
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"


def _extras(entry):
    """Return the names between the brackets at the end of an entry point, ``"diffusers"``."""
    # EntryPoint.extras cuts names at their hyphens.
    return entry.value.partition("[")[2].partition("]")[0].strip()


def _remedy(entry):
    if entry.dist and _extras(entry):
        return f'pip install "{entry.dist.name}[{_extras(entry)}]"'
    return f"install it, or the extra of {_owner(entry)} that brings it"


classifiers = Registry("halopy.classifiers", base="halopy.classify.base:Classifier")
"""The installed classifiers."""

generators = Registry("halopy.generators", base="halopy.generative.base:HaloGenerator")
"""The installed generators of halo images."""
