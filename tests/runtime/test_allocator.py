import subprocess
import sys

import pytest

from conmim_lightning.runtime.allocator import keep_freed_memory

SCRIPT = """
import resource
from conmim_lightning.runtime.allocator import keep_freed_memory
assert keep_freed_memory()
bytearray(2**26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(b"1") * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")
def test_freed_memory_is_used_again():
    """Pages that return to the system come back one page fault each: 16,384 per round."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 * 16384


def test_other_systems_keep_their_settings(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory()
