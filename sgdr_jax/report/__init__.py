"""Pictures and tables of runs, drawn from run folders."""
