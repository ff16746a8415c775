"""What a run will need, before anything is loaded: bytes, FLOPs and seconds from shapes alone.

Pure functions of a model's `layout`, of what its objectives read (`reads`) and of a `Run`;
`lit-unlearn plan` puts them together.
"""
