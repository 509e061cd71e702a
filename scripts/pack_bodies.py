"""Bodies in little room, for a machine on which building them would waste its time.

    python scripts/pack_bodies.py pack --to cache/bodies --fine-of arms_down arms_up lumbosacral_up
    python scripts/pack_bodies.py unpack --from cache/bodies --anatomy gpu/anatomy --fine gpu/anatomy_fine

One file per body, about 1 MB, and 2 to 7 MB more for the depth map of one that the fine net is to be shown. A
posture's maps are kept as what differs from the standard body's; the distance outside the muscles is worked
out anew. What comes out is what went in, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import lzma
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from build_anatomy import GRAFTED, POSTURES
from scipy import ndimage

from petbone.net.anatomies import Anatomy
from petbone.net.fine_anatomy import FineAnatomy

MAPS = ("labels", "cortex", "spongiosa", "tissue")
STANDARD = "arms_down"
LEVEL = 1  # of compression: higher ones save a tenth and take four times as long
# Body by body, the one that its maps are told apart from.
LIKE = {**dict.fromkeys(POSTURES, STANDARD), **GRAFTED}


def squeezed(values: np.ndarray) -> np.ndarray:
    """Bytes of an array, compressed."""
    filters = [{"id": lzma.FILTER_DELTA, "dist": 1}, {"id": lzma.FILTER_LZMA2, "preset": LEVEL}]
    return np.frombuffer(lzma.compress(values.tobytes(), lzma.FORMAT_XZ, filters=filters), np.uint8)


def outside_mm(inner: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Distance outside the muscle layer, as the builders have it."""
    return ndimage.distance_transform_edt(~inner, sampling=spacing_mm).clip(0, 255).astype(np.uint8)


def pack(name: str, anatomy: Path, fine: Path, to: Path, fine_of: list[str]) -> str:
    """Write one body; its size."""
    body = Anatomy.load(anatomy / f"{name}.npz")
    other = anatomy / f"{LIKE.get(name, name)}.npz"
    like = LIKE.get(name) if other.exists() else None
    maps = np.stack([getattr(body, n) for n in MAPS] + [(body.outside_mm == 0).astype(np.uint8)])
    if not np.array_equal(outside_mm(body.outside_mm == 0, body.spacing_mm), body.outside_mm):
        raise SystemExit(f"{name}: its distance outside the muscles is not that to where it is 0")
    if like is not None:
        base = Anatomy.load(other)
        maps -= np.stack([getattr(base, n) for n in MAPS] + [(base.outside_mm == 0).astype(np.uint8)])
    header = {
        "name": name,
        "like": like,
        "shape": list(maps.shape),
        "low_mm": list(body.low_mm),
        "spacing_mm": body.spacing_mm,
    }
    parts = {"maps": squeezed(maps)}
    if name in fine_of:
        shown = FineAnatomy.load(fine / name)
        depth = np.array(shown.depth)
        header["fine"] = {
            "shape": list(depth.shape),
            "low_mm": list(shown.low_mm),
            "spacing_mm": shown.spacing_mm,
            "like": like if like in fine_of else None,
        }
        if header["fine"]["like"]:
            depth -= np.load(fine / str(like) / "depth.npy")
        parts["depth"] = squeezed(depth)
    np.savez(to / f"{name}.npz", header=np.array(json.dumps(header)), **parts)
    return f"{name}: {(to / f'{name}.npz').stat().st_size / 1e6:.1f} MB"


def opened(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Header and arrays of a packed body, differences not undone."""
    with np.load(path) as file:
        header = json.loads(str(file["header"]))
        found = {"maps": (header["shape"], file["maps"])}
        if "fine" in header:
            found["depth"] = (header["fine"]["shape"], file["depth"])
    return header, {
        key: np.frombuffer(lzma.decompress(packed.tobytes()), np.uint8).reshape(shape)
        for key, (shape, packed) in found.items()
    }


def keep(header: dict, arrays: dict[str, np.ndarray], anatomy: Path, fine: Path) -> str:
    """Write a whole body where the builders would."""
    maps = arrays["maps"]
    body = Anatomy(
        header["name"],
        tuple(header["low_mm"]),
        header["spacing_mm"],
        *maps[:4],
        outside_mm(maps[4] > 0, header["spacing_mm"]),
    )
    body.save(anatomy / f"{body.name}.npz")
    if "depth" in arrays:
        place = header["fine"]
        FineAnatomy.of(body, arrays["depth"], tuple(place["low_mm"]), place["spacing_mm"]).save(
            fine / body.name
        )
    return body.name


def unpack(source: Path, anatomy: Path, fine: Path, jobs: int) -> None:
    """All bodies of a folder."""
    anatomy.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        found = {
            header["name"]: (header, arrays)
            for header, arrays in pool.map(opened, sorted(source.glob("*.npz")))
        }
    if not found:
        raise SystemExit(f"no packed bodies in {source}")
    whole: dict[str, dict[str, np.ndarray]] = {}

    def arrays_of(name: str) -> dict[str, np.ndarray]:
        if name not in whole:
            header, arrays = found[name]
            likes = {"maps": header["like"], "depth": header.get("fine", {}).get("like")}
            whole[name] = {k: a + arrays_of(likes[k])[k] if likes[k] else a for k, a in arrays.items()}
        return whole[name]

    with ProcessPoolExecutor(jobs) as pool:
        work = [pool.submit(keep, found[name][0], arrays_of(name), anatomy, fine) for name in found]
        for each in work:
            print(each.result(), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["pack", "unpack"])
    parser.add_argument("--anatomy", type=Path, default=Path("~/.cache/petbone/anatomy"))
    parser.add_argument("--fine", type=Path, default=Path("~/.cache/petbone/anatomy_fine"))
    parser.add_argument("--to", type=Path, help="folder for the packed bodies")
    parser.add_argument("--from", type=Path, dest="source", help="folder of packed bodies")
    parser.add_argument("--fine-of", nargs="*", default=[], help="bodies whose depth maps are packed too")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    anatomy, fine = given.anatomy.expanduser(), given.fine.expanduser()
    if given.what == "unpack":
        if given.source is None:
            parser.error("unpack needs --from")
        unpack(given.source, anatomy, fine, given.jobs)
        return
    if given.to is None:
        parser.error("pack needs --to")
    given.to.mkdir(parents=True, exist_ok=True)
    names = sorted(path.stem for path in anatomy.glob("*.npz"))
    one = partial(pack, anatomy=anatomy, fine=fine, to=given.to, fine_of=given.fine_of)
    with ProcessPoolExecutor(given.jobs) as pool:
        for said in pool.map(one, names):
            print(said, flush=True)


if __name__ == "__main__":
    main()
