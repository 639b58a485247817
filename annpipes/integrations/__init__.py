"""Where people train: each module imports its framework, which an extra installs, and nothing else imports the module.

`lightning`         a datamodule over Loaders, which resumes from every checkpoint
`lightning_epochs`  the epochs of a training, with a place in every checkpoint
`accelerate`        a Loader among what Accelerate has prepared
`transformers`      a Trainer over Loaders, which resumes from every checkpoint
`scvi`              a datamodule for models of scvi-tools
`scvi_facts`        what such a model asks of it beside batches
`scvi_parts`        the cells that such a model is trained, validated and tested on
`scvi_registry`     what such a model is told of the data
"""

from __future__ import annotations

__all__: list[str] = []
