"""Devices and hosts: mesh, agreement among processes, heartbeats, preemption, compilation cache."""
