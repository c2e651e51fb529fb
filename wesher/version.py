"""Which wesher this is: read once, while files may be opened."""

import importlib.metadata
from typing import Final

VERSION: Final = importlib.metadata.version("wesher")
