#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the photographs that come from GCompris out of Debian's package gcompris-qt-data (3.1-2 was used).

    apt-get download gcompris-qt-data && dpkg -x gcompris-qt-data_*.deb DIR
    python3 collect_photos.py DIR/usr/share/gcompris-qt/rcc        (needs Pillow)

The package holds its pictures in Qt resource files, and beside each group of pictures a README with author,
origin and licence. This script reads both, takes only pictures whose README says CC0 or public domain,
writes them as JPEG (4:4:4, quality 88, scaled down to at most the stated longer side) and prints the rows of
SOURCES.md.
"""
import argparse
import functools
import io
import pathlib
import re
import struct
import zlib

HERE = pathlib.Path(__file__).resolve().parent
FREE = {"CC0-1.0", "Public Domain", "Public domain"}
WORLD, FARM = "explore_world_animals/resource/animals", "explore_farm_animals/resource/animals"
ERASE, THINGS = "erase/resource", "categorization/resource/images"
# folder here, longer side in pixels, folder there, {name here: name there}
GROUPS = [
    ("photos", 640, WORLD, {"macaw": "scarlet_macaw", "koala": "koala"}),
    ("photos", 640, FARM, {"dog": "dog"}),
    ("photos", 640, ERASE, {"red_panda": "red_panda"}),
    ("photos", 640, THINGS + "/others", {"baseball": "baseball"}),
    ("calibration", 360, WORLD, {n: n for n in ("bison", "chameleon", "crocodile", "hedgehog", "jaguar", "kangaroo",
                                                "lemur", "moose")} | {"komodo_dragon": "dragon"}),
    ("calibration", 360, FARM, {n: n for n in ("chicken", "cow", "duck", "owl", "sheep")} | {"kitten": "cat"}),
    ("calibration", 480, ERASE, {"crab": "crab", "kingfisher": "kingfisher"}),
    ("calibration", 360, THINGS + "/others", {n: n for n in ("bucket", "chair", "cup", "pan", "spoons")}),
    ("calibration", 360, THINGS + "/monuments", {"taj_mahal": "tajMahal", "eiffel_tower": "eiffelTower"}),
    ("calibration", 360, THINGS + "/fishes", {"clownfish": "fish9"}),
    ("calibration", 360, THINGS + "/tools", {"multimeter": "multimeter2"}),
    ("calibration", 360, THINGS + "/renewable", {"windmill": "windmill12"}),
]


def read_resources(path):
    """{path inside: bytes} of a Qt binary resource file whose entries are stored or zlib-compressed."""
    data = path.read_bytes()
    magic, version, tree, blobs, names = struct.unpack_from(">4sIIII", data)
    if magic != b"qres":
        raise SystemExit(f"{path}: not a Qt resource file")
    size, out = 22 if version >= 2 else 14, {}

    def visit(index, parent):
        name_at, flags, a, b = struct.unpack_from(">IHII", data, tree + index * size)
        name = ""
        if index:
            (length,) = struct.unpack_from(">H", data, names + name_at)
            name = parent + "/" + data[names + name_at + 6:names + name_at + 6 + 2 * length].decode("utf-16-be")
        if flags & 2:  # a folder: number of children, index of the first
            for child in range(b, b + a):
                visit(child, name)
            return
        (length,) = struct.unpack_from(">I", data, blobs + b)
        blob = data[blobs + b + 4:blobs + b + 4 + length]
        out[name] = zlib.decompress(blob[4:]) if flags & 1 else blob

    visit(0, "")
    return out


def rights(readme, name):
    """Author, licence and origin of a file, from the paragraph of the README that lists it."""
    for paragraph in re.split(r"\n\s*\n", readme):
        if name in re.split(r"\s+", paragraph):
            fields = dict(re.findall(r"^(Copyright|License|Source): *(.+)$", paragraph, re.M))
            return fields["Copyright"].strip(), fields["License"].strip(), fields["Source"].strip()
    raise SystemExit(f"the README says nothing of {name}")


def main():
    from PIL import Image
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rcc", type=pathlib.Path, help="the package's folder of .rcc files")
    args = parser.parse_args()
    resources = functools.lru_cache(None)(lambda activity: read_resources(args.rcc / f"{activity}.rcc"))
    for folder, side, there, names in GROUPS:
        files = resources(there.split("/")[0])
        root = f"/gcompris/src/activities/{there}/"
        readme = files[root + "README"].decode()
        for here, name in names.items():
            author, licence, origin = rights(readme, name + ".webp")
            if licence not in FREE:
                raise SystemExit(f"{name}: licence {licence}")
            picture = Image.open(io.BytesIO(files[root + name + ".webp"])).convert("RGB")
            picture.thumbnail((side, side), Image.LANCZOS)
            picture.save(HERE / folder / f"{here}.jpg", quality=88, subsampling=0, optimize=True)
            licence = "CC0 1.0" if licence.startswith("CC0") else "public domain"
            print(f"| `{folder}/{here}.jpg` | {author} | {licence} | `{there}/{name}.webp`, <{origin}> |")


if __name__ == "__main__":
    main()
