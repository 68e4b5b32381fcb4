"""Random changes of training images, as descriptions: frozen dataclasses without jax. `augment.kernel` carries them out.

Adding one: a file with a subclass of `types.Augmentation`, one line here, one row in `tests/test_augment.py`.
"""

from .crop import Crop
from .dihedral import Dihedral
from .erase import Erase
from .flip import Flip
from .lighting import Lighting
from .presets import side_on, top_down
from .rotate import Rotate
from .zoom import Zoom

__all__ = ["Crop", "Dihedral", "Erase", "Flip", "Lighting", "Rotate", "Zoom", "side_on", "top_down"]
