"""What an upstream that is well may give instead of its list of models: nothing that could be listed."""

from typing import Final

from proxy.providers.contract import Model


class Unlisted(tuple[Model, ...]):
    """A list that says nothing, not even that there are no models: what was known before stays."""

    __slots__ = ()


UNLISTED: Final = Unlisted()
