"""Reading one tar shard from wherever it lies, through webdataset and fsspec.

webdataset, not litdata, because it reads what img2dataset and everybody's scripts have written, without converting;
fsspec opens http, s3, gs and files alike, with time limits, and comes with Lightning.
"""

import time
from collections.abc import Iterator
from typing import Any

from conmim_lightning.data.files import is_image_name
from conmim_lightning.data.tar_index import is_hostile

Item = tuple[str, bytes]  # name, content
_BLOCK = 512
_SECRETS = ("secret", "password", "token", "credential", "authorization", "key")


class ShardReader:
    """Reads a shard from wherever it lies, however often it takes.

    Args:
        root: that names are told relative to.
        retries: further attempts at a shard.
        stall_timeout: seconds without a byte after which an attempt fails.
        storage_options: further arguments of fsspec's file system.
    """

    def __init__(self, root: str, retries: int, stall_timeout: float, storage_options: dict[str, Any]) -> None:
        self.root = root.rstrip("/") + "/"
        self.retries = retries
        self.stall_timeout = stall_timeout
        self.storage_options = storage_options
        self.faults: list[tuple[str, str]] = []
        self._told = 0

    def take_faults(self) -> list[tuple[str, str]]:
        """What was left out since the last call: name and reason."""
        new, self._told = self.faults[self._told :], len(self.faults)
        return new

    def images(self, url: str) -> Iterator[Item]:
        """Images of a shard in its order; a shard that keeps failing ends early and is listed."""
        given = 0
        for attempt in range(self.retries + 1):
            try:
                for number, item in enumerate(self._attempt(url)):
                    if number >= given:
                        given += 1
                        yield item
                return
            except Exception as error:  # engines and servers fail in many ways
                reason = f"{type(error).__name__}: {error}"
                if attempt < self.retries:
                    time.sleep(min(0.1 * 2**attempt, 5.0))
        self.faults.append(
            (url.removeprefix(self.root), f"left out after {given} images and {self.retries + 1} attempts; {reason}")
        )

    def _attempt(self, url: str) -> Iterator[Item]:
        import fsspec
        from webdataset.tariterators import group_by_keys, tar_file_expander

        with fsspec.open(url, "rb", **self._options(url)) as opened:
            file = _Watched(opened)
            members = tar_file_expander([{"url": url, "stream": file}], select_files=_wanted)
            for sample in group_by_keys(members, lcase=False, handler=_skip):
                for suffix in sample:
                    if is_image_name("." + suffix) and "." not in suffix:
                        yield f"{url.removeprefix(self.root)}/{sample['__key__']}.{suffix}", sample[suffix]
                        break
            if url.endswith(".tar") and file.last.strip(b"\0"):  # tarfile takes a cut between two members for the end
                raise EOFError("the shard has no end mark")

    def _options(self, url: str) -> dict[str, Any]:
        if not url.startswith(("http://", "https://")):
            return self.storage_options
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=self.stall_timeout, sock_read=self.stall_timeout)
        client = {"timeout": timeout} | self.storage_options.get("client_kwargs", {})
        return {"block_size": 0} | self.storage_options | {"client_kwargs": client}


class _Watched:
    """A file that remembers the last block that was read.

    Args:
        file: to read from.
    """

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last = b"\1"

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes."""
        if content := self.file.read(size):
            self.last = (self.last + content)[-_BLOCK:]
        return content


def _wanted(name: str) -> bool:
    return is_image_name(name) and not is_hostile(name)


def _skip(error: Exception) -> bool:
    """A second member of one name is left out, as webdataset does with this answer."""
    return isinstance(error, ValueError)


def expand(root: str, shards: str) -> list[str]:
    """Addresses of the shards: ``root/shards`` with ranges in braces written out.

    Raises:
        ValueError: webdataset is missing, or the pattern cannot be read.
    """
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError("a stream needs webdataset: pip install 'conmim-lightning[stream]'") from error
    pattern = f"{root.rstrip('/')}/{shards}"
    urls = expand_urls(pattern)
    if not urls:
        raise ValueError(f"the pattern {pattern!r} names no shard")
    return list(urls)


def refuse_secrets(options: dict[str, Any]) -> None:
    """Raise ValueError for options whose names are those of secrets: the configuration is kept with every run."""
    found = [name for name in _all_keys(options) if any(part in name.lower() for part in _SECRETS)]
    if found:
        raise ValueError(
            f"storage_options {found} look like secrets, and the configuration is kept with every run; give them in "
            "the environment or in the files that the bucket's library reads"
        )


def _all_keys(options: dict[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        yield name
        if isinstance(value, dict):
            yield from _all_keys(value)
