"""Without scvi-tools, the data module says what to install."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = "import sys; sys.modules['scvi'] = None; import annpipes.integrations.scvi"


def test_a_missing_framework_is_named_with_its_extra() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.strip().splitlines()[-1] == (
        "ModuleNotFoundError: annpipes.integrations.scvi needs scvi-tools: pip install 'annpipes[scvi]'"
    )
