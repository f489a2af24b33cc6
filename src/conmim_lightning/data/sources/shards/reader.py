"""Reading tar shards in webdataset's layout from any location, through fsspec.

The layout is webdataset's rather than litdata's because img2dataset and common scripts write it. The archives are read
with tarfile, as webdataset's own iterator leaves out links and names such as ``__x__`` without a word. fsspec opens
http, s3, gs and files in the same manner, with timeouts, and is a dependency of Lightning.
"""

import tarfile
import time
from collections.abc import Iterator
from itertools import groupby
from typing import IO, Any, cast

from conmim_lightning.batches import LEFT_OUT
from conmim_lightning.data.sources.shards.members import MemberChoice, ShardMembers, sample_of

Item = tuple[str, bytes]  # name, content
_BLOCK = 512
_SECRETS = ("secret", "password", "token", "credential", "authorization", "key")


class ShardReader:
    """Read shards, with retries.

    Args:
        root: location that reported names are relative to.
        retries: number of further attempts at a shard.
        stall_timeout: seconds without a byte after which an attempt fails.
        storage_options: further arguments of fsspec's file system.
        choice: choice of the images of a shard.
    """

    def __init__(
        self, root: str, retries: int, stall_timeout: float, storage_options: dict[str, Any], choice: MemberChoice
    ) -> None:
        self.root = root.rstrip("/") + "/"
        self.retries = retries
        self.stall_timeout = stall_timeout
        self.storage_options = storage_options
        self.choice = choice
        self.num_missing = 0
        self._listed: set[str] = set()
        self.faults: list[tuple[str, str]] = []
        self._reported = 0

    def pop_faults(self) -> list[tuple[str, str]]:
        """Return the name and reason of each shard that was left out since the last call."""
        new, self._reported = self.faults[self._reported :], len(self.faults)
        return new

    def images(self, url: str) -> Iterator[Item]:
        """Yield the images of a shard in its order; a shard that keeps failing ends early and is listed.

        ``num_missing`` counts the shards that do not exist.
        """
        yielded, reason = 0, ""
        for attempt in range(self.retries + 1):
            try:
                for number, item in enumerate(self._attempt(url)):
                    if number >= yielded:
                        yielded += 1
                        yield item
                return
            except Exception as error:  # file systems and servers fail in many ways
                if _is_missing(error):
                    self.num_missing += 1
                    self.faults.append((url.removeprefix(self.root), "Missing: there is no such shard"))
                    return
                reason = f"{type(error).__name__}: {error}"
                if attempt < self.retries:
                    time.sleep(min(0.1 * 2**attempt, 5.0))
        self.faults.append(
            (url.removeprefix(self.root), f"left out after {yielded} images and {self.retries + 1} attempts; {reason}")
        )

    def _attempt(self, url: str) -> Iterator[Item]:
        import fsspec

        with fsspec.open(url, "rb", **self._options(url)) as opened:
            file = _TailFile(cast(IO[bytes], opened))
            members = self.choice.begin()
            shard = url.removeprefix(self.root)
            with tarfile.open(fileobj=cast(IO[bytes], file), mode="r|*") as archive:
                for _, sample in groupby(_files(archive, members), key=lambda item: sample_of(item[0])[0]):
                    contents = dict(sample)
                    for name in members.choose(list(contents)):
                        yield f"{shard}/{name}", contents[name]
            self._list_once(shard, members.summary())
            # tarfile mistakes a truncation between two members for the end
            if url.endswith(".tar") and file.last.strip(b"\0"):
                raise EOFError("the shard has no end mark")

    def _list_once(self, shard: str, sentences: list[str]) -> None:
        """List what was left out of a shard, once."""
        if sentences and shard not in self._listed:
            self._listed.add(shard)
            self.faults.append((shard, f"{LEFT_OUT} {'; '.join(sentences)}"))

    def _options(self, url: str) -> dict[str, Any]:
        if not url.startswith(("http://", "https://")):
            return self.storage_options
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=self.stall_timeout, sock_read=self.stall_timeout)
        client = {"timeout": timeout} | self.storage_options.get("client_kwargs", {})
        return {"block_size": 0} | self.storage_options | {"client_kwargs": client}


class _TailFile:
    """A file that keeps the last block that was read.

    Args:
        file: file to read from.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.last = b"\1"

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes."""
        if content := self.file.read(size):
            self.last = (self.last + content)[-_BLOCK:]
        return content


def _files(archive: tarfile.TarFile, members: ShardMembers) -> Iterator[Item]:
    """Yield the members that may be images."""
    for member in archive:
        archive.members = []  # type: ignore[misc]  # otherwise it stores them all
        if members.is_new_file(member) and members.takes(member.name):
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def _is_missing(error: Exception) -> bool:
    """Return whether there is no such shard; fsspec raises the same exception for hosts that cannot be reached."""
    status = getattr(error.__cause__, "status", None)
    return isinstance(error, FileNotFoundError) and (error.__cause__ is None or status in (404, 410))


def expand(root: str, shards: str) -> list[str]:
    """Expand ``root/shards``, with ranges in braces, to the addresses of the shards.

    Raises:
        ValueError: webdataset is not installed, or the pattern is invalid.
    """
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError("a stream needs webdataset: pip install 'conmim-lightning[stream]'") from error
    pattern = f"{root.rstrip('/')}/{shards}"
    urls = expand_urls(pattern)
    if not urls:
        raise ValueError(f"the pattern {pattern!r} matches no shard")
    return list(urls)


def reject_secrets(options: dict[str, Any]) -> None:
    """Raise ValueError for options that look like secrets, because the configuration is stored with every run."""
    secrets = [name for name in _all_keys(options) if any(word in name.lower() for word in _SECRETS)]
    if secrets:
        raise ValueError(
            f"storage_options {secrets} look like secrets, and the configuration is stored with every run; set them in "
            "the environment or in the configuration files of the bucket's library"
        )


def _all_keys(options: dict[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        yield name
        if isinstance(value, dict):
            yield from _all_keys(value)
