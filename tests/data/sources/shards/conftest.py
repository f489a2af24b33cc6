from pathlib import Path

import pytest
from shard_files import write_shards


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards(tmp_path, 10, 10, 10, 10)
    return tmp_path
