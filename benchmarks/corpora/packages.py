"""Packages that corpora are made of: downloaded once, unpacked beside each other, never installed."""

import subprocess
from pathlib import Path


def unpack_debian(names: list[str], cache: Path) -> Path:
    """Root of the unpacked Debian packages; needs `apt-get` with a fresh index and `dpkg`.

    Raises:
        CalledProcessError: one cannot be downloaded.
    """
    root, archives = cache / "debian", cache / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    for name in names:
        done = root / f".{name}"
        if not done.exists():
            if not (found := sorted(archives.glob(f"{name}_*.deb"))):
                subprocess.run(["apt-get", "download", "-qq", name], cwd=archives, check=True)
                found = sorted(archives.glob(f"{name}_*.deb"))
            root.mkdir(exist_ok=True)
            subprocess.run(["dpkg", "-x", found[-1], root], check=True)
            done.touch()
    return root


def unpack_npm(package: str, cache: Path) -> Path:
    """Folder of an npm package, `name@version`; needs `npm`.

    Raises:
        CalledProcessError: it cannot be downloaded.
    """
    folder = cache / package.replace("@", "-")
    if not folder.exists():
        making = cache / f"{folder.name}.part"
        making.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", package], cwd=making, check=True, stdout=subprocess.DEVNULL)
        (archive,) = making.glob("*.tgz")
        subprocess.run(["tar", "xzf", archive.name, "--strip-components=1"], cwd=making, check=True)
        making.rename(folder)
    return folder
