"""From a ComfyUI workflow to a job file: `batchgen import comfyui`. Reads one JSON file, and none that it names."""
