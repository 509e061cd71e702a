"""The joints at which degeneration takes up bone-seeking tracers: which bones, and how far it reaches.

An uptake faces a joint where it lies within a reach of both of its bones. The reach is that of the PET plus
the joint's own width: a PET of 6 mm resolution shows the thin bone plate under the cartilage some 5 mm (two
standard deviations of its blur) to either side, and the plates lie 2 to 4 mm apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

from petbone.anatomy import ALL_BONES, BY_NAME
from petbone.endplates import COLUMN, SACRUM


@dataclass(frozen=True)
class Joint:
    """A kind of joint: any bone of `one` with any of `other` (labels).

    `reach_mm`: uptake this near to both bones faces the joint; `why` says what made it so.
    `behind`: only what lies behind the bodies of the vertebrae, where the joints of the arches are.
    """

    name: str
    one: tuple[int, ...]
    other: tuple[int, ...]
    reach_mm: float
    why: str
    behind: bool = False

    def pairs(self) -> list[tuple[int, int]]:
        """Every two bones that may form it, once."""
        return list(combinations(self.one, 2) if self.one == self.other else product(self.one, self.other))


def _pair(name: str) -> tuple[int, ...]:
    return tuple(BY_NAME[f"{name}_{side}"].id for side in ("left", "right"))


_VERTEBRAE = COLUMN[:-1]
_RIBS = tuple(bone.id for bone in ALL_BONES if bone.group == "ribs")
_STERNUM, _HEAD, _JAW = (BY_NAME[name].id for name in ("sternum", "skull", "mandible"))
_USUAL = "blur of the PET, and a joint 2 to 4 mm wide"
_SMALL = "the processes are some 10 mm thick: a longer reach would take the whole of them for the joint"
_THICK = "thick cartilage: the bones lie 3 to 5 mm apart"

JOINTS: tuple[Joint, ...] = (
    Joint("facet joint", _VERTEBRAE, _VERTEBRAE, 6.0, _SMALL, behind=True),
    Joint("lumbosacral facet joint", _VERTEBRAE, (SACRUM,), 6.0, _SMALL, behind=True),
    Joint("costovertebral joint", _RIBS, _VERTEBRAE, 8.0, _USUAL),
    Joint("sacroiliac joint", (SACRUM,), _pair("hip"), 8.0, _USUAL),
    Joint("pubic symphysis", _pair("hip")[:1], _pair("hip")[1:], 8.0, _USUAL),
    Joint("hip joint", _pair("hip"), _pair("femur"), 10.0, _THICK),
    Joint("glenohumeral joint", _pair("scapula"), _pair("humerus"), 10.0, _THICK),
    Joint("acromioclavicular joint", _pair("clavicle"), _pair("scapula"), 8.0, _USUAL),
    Joint("sternoclavicular joint", (_STERNUM,), _pair("clavicle"), 8.0, _USUAL),
    Joint("sternocostal joint", (_STERNUM,), _RIBS, 10.0, "costal cartilage lies between the bones"),
    Joint("jaw joint or teeth", (_HEAD,), (_JAW,), 8.0, _USUAL),
)
"""Every kind of joint that is looked for."""

LONGEST_REACH_MM = max(joint.reach_mm for joint in JOINTS)
