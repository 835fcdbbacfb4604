"""A figure as the bytes of a picture."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


def encode_png(figure: Figure) -> bytes:
    """Draw a figure as PNG, at its own size and resolution.

    No date and no version is in it, so the bytes depend on what is drawn only.
    """
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi="figure", metadata={"Software": None})
    return out.getvalue()
