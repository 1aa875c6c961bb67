"""How layers and traces look in a notebook; what draws them stands above the layers."""

from __future__ import annotations


class InNotebooks:
    """Shown in a notebook as `lstm_numba.show` shows it."""

    def _repr_html_(self) -> str:
        """HTML in place of the text."""
        # Only when a notebook asks: the package finds what shows it, which knows layers, by its name.
        import lstm_numba

        return str(lstm_numba.show(self)._repr_html_())
