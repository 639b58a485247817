"""Edges to frameworks, each an extra.

`scvi`           a data module for models of scvi-tools
`scvi_facts`     what such a model asks of it beside batches
`scvi_parts`     the cells that such a model is trained, validated and tested on
`scvi_registry`  what such a model is told of the data
"""

__all__: list[str] = []
