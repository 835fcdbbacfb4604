"""Pictures as data URLs, the form in which servers take them."""

from __future__ import annotations

import base64
import io
from collections import OrderedDict

from engine.generation.protocol import Picture

_JPEG_QUALITY = 95
_KEPT = 512


class DataUrls:
    """Encodes each picture once: the captions of an image follow each other."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()

    def of(self, picture: Picture) -> str:
        """The picture as the data URL of a JPEG of quality 95."""
        url = self._kept.get(picture.id)
        if url is None:
            buffer = io.BytesIO()
            picture.image.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
            url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
            self._kept[picture.id] = url
        self._kept.move_to_end(picture.id)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return url
