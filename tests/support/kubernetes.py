"""A volume of secrets as the kubelet keeps it (its `atomic_writer.go`)."""

import shutil
from collections.abc import Mapping
from pathlib import Path


class SecretVolume:
    """Files that are links, through one that a change of them all replaces at once."""

    def __init__(self, folder: Path, **files: str) -> None:
        folder.mkdir()
        self.folder = folder
        self._generation = 0
        self.swap(files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def swap(self, files: Mapping[str, str]) -> None:
        """Put other contents in the place of all, as an edit of the Secret does."""
        self._generation += 1
        fresh, data = self.folder / f"..{self._generation}", self.folder / "..data"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_text(content)
            (fresh / name).chmod(0o440)
        old = data.readlink() if data.is_symlink() else None
        link = self.folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(data)
        if old is not None:
            shutil.rmtree(self.folder / old)
