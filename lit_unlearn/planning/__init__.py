"""Say what a run will need before anything is loaded: memory, FLOPs and disk, from shapes alone.

A `Scenario` holds the switches of a run, `forward_passes` what its objectives compute, `memory` and
`flops` the formulas, and `plan` puts them together.
"""
