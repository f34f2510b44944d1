"""How large a set's images are, without decoding them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from common.data.names import PICTURE_SETS, SMALL_SETS, in_memory, parse
from common.data.pictures.decoding import reason_of
from common.data.pictures.sets import FolderStore, open_pictures
from common.errors import UserError

LOOKED_AT = 64  # pictures whose headers are read, spread evenly over the set


def image_size(name: str, options: Any = None) -> int:
    """The side in pixels of a set's images: the asked one for ``NAME@SIZE``, the known one for a known set, else the
    median shorter side of some of the folder's pictures (only their headers are read).

    Known sets need not be there. Raises UserError for a missing folder, or one without a readable picture.
    """
    plain, size = parse(name)
    if size or in_memory(plain):
        return size or SMALL_SETS[plain]
    if plain in PICTURE_SETS:
        return PICTURE_SETS[plain]
    pictures = open_pictures(plain, "train", options, hashed=False)
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), LOOKED_AT)).astype(int)
    sides = sorted(min(_header(pictures, int(i))) for i in chosen)
    return sides[len(sides) // 2]


def _file(store: Any, position: int) -> Any:
    return store.name(position) if isinstance(store, FolderStore) else io.BytesIO(store.read(position))


def _header(pictures: Any, index: int) -> tuple[int, int]:
    position = int(pictures.positions[index])
    try:
        with Image.open(_file(pictures.store, position)) as picture:
            return picture.size
    except UserError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        where = pictures.store.name(position)
        raise UserError(f"{where} cannot be decoded: {reason_of(error)}; replace or remove it") from None
