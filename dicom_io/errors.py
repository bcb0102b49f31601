"""The base of errors that are recorded with their reason."""


class StatedError(Exception):
    """Its only argument is the reason: one sentence for people, without patient data."""

    @property
    def reason(self) -> str:
        """The sentence."""
        return str(self)
