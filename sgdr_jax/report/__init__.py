"""Plots and tables of runs, made from run folders."""
