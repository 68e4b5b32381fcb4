"""Devices and hosts: meshes, agreement among processes, preemption, the compilation cache."""
