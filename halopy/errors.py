"""The errors of halopy, all in one place.

Everything that is wrong with what a user hands to halopy is a `HaloInputError`: a file, a header
keyword, a table, a position, a setting. Its message says what was found, what must hold and one
thing to try.
"""

from __future__ import annotations

__all__ = [
    "HaloInputError",
    "HalopyWarning",
    "MissingExtraError",
    "NotFittedError",
    "OutsideImageError",
    "PluginError",
    "ProviderError",
    "UnknownModelError",
    "UnusableImageError",
]


class HalopyWarning(UserWarning):
    """Something was repaired or guessed; the result can be used, and says so in its flags."""


class HaloInputError(ValueError):
    """Bad input: a file, a header, a table, a position or a setting that cannot be used.

    Parameters
    ----------
    message : str
        What must hold and what was found.
    path, hdu, keyword, found, hint : optional
        Where it was found: file, HDU number, header keyword or column, the value that was met,
        and one thing to try. They are attributes of the error and part of its text.

    Examples
    --------
    >>> from halopy.errors import HaloInputError
    >>> error = HaloInputError("the beam must be positive", path="a.fits", keyword="BMAJ",
    ...                        found=0.0, hint="give beam=Beam(45 * u.arcsec)")
    >>> print(error)
    a.fits: the beam must be positive (BMAJ, found 0.0); try: give beam=Beam(45 * u.arcsec)
    """

    def __init__(self, message, *, path=None, hdu=None, keyword=None, found=None, hint=None):
        self.message = message
        self.path = path
        self.hdu = hdu
        self.keyword = keyword
        self.found = found
        self.hint = hint
        super().__init__(message)

    def __reduce__(self):
        # Errors cross process borders in batch runs; keyword-only arguments need help to pickle.
        return _rebuild, (type(self), self.message, self.__dict__.copy())

    def __str__(self):
        where = [
            text
            for text in (
                f"HDU {self.hdu}" if self.hdu is not None else "",
                self.keyword or "",
                f"found {self.found!r}" if self.found is not None else "",
            )
            if text
        ]
        text = f"{self.path}: " if self.path is not None else ""
        text += self.message
        if where:
            text += f" ({', '.join(where)})"
        if self.hint:
            text += f"; try: {self.hint}"
        return text


def _rebuild(cls, message, state):
    error = cls(message)
    error.__dict__.update(state)
    return error


class UnusableImageError(HaloInputError):
    """An image in which nothing can be measured: no data, no noise, or none that is left."""


class OutsideImageError(HaloInputError):
    """A position lies outside the image, or cannot be projected onto it."""


class NotFittedError(RuntimeError):
    """A model that needs training was asked for results before ``fit`` or ``load``."""


class UnknownModelError(KeyError):
    """No installed model has this name."""

    def __str__(self):  # KeyError would print the repr of the text
        return str(self.args[0]) if self.args else ""


class PluginError(RuntimeError):
    """An installed plugin cannot be used; the message names its distribution."""


class ProviderError(RuntimeError):
    """An archive did not give what was asked of it: the network, the service or its reply is to blame.

    Parameters
    ----------
    message : str
        What happened, in words for the user.
    cause : str, optional
        The same in one word, for programs: ``"status"``, ``"timeout"``, ``"connection"``, ``"html"``, ``"empty"``,
        ``"truncated"``, ``"format"``, ``"redirect"``, ``"scheme"``, ``"sha256"``, ``"large"``, ``"login"``,
        ``"offline"``, ``"outside"`` (the archive holds no image there) or ``"unknown"`` (it does not know the survey).
    provider, url, attempts, hint : optional
        Who was asked, under which address, how often, and one thing to try.

    Examples
    --------
    >>> from halopy.errors import ProviderError
    >>> print(ProviderError("the server answered 503", cause="status", provider="skyview",
    ...                     url="https://example.org/a.fits", attempts=3, hint="later"))
    skyview: the server answered 503 (3 attempts, https://example.org/a.fits); try: later
    """

    def __init__(self, message, *, cause=None, provider=None, url=None, attempts=None, hint=None):
        self.message = message
        self.cause = cause
        self.provider = provider
        self.url = url
        self.attempts = attempts
        self.hint = hint
        super().__init__(message)

    def __reduce__(self):
        return _rebuild, (type(self), self.message, self.__dict__.copy())

    def __str__(self):
        tried = f"{self.attempts} attempts" if self.attempts and self.attempts > 1 else ""
        where = ", ".join(text for text in (tried, str(self.url or "")) if text)
        text = f"{self.provider}: " if self.provider else ""
        text += self.message + (f" ({where})" if where else "")
        return text + (f"; try: {self.hint}" if self.hint else "")


class MissingExtraError(PluginError):
    """A model needs an optional dependency that is not installed; the message names the extra."""
