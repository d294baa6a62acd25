"""How images become tables: by the pipeline, over processes, in a folder that outlives a run."""
