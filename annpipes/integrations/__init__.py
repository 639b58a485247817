"""Where people train: each module imports its framework, which an extra installs, and nothing else imports the module.

`lightning`     a datamodule over Loaders, which resumes from every checkpoint
"""

from __future__ import annotations

__all__: list[str] = []
