"""The `lightroom` toolset rendered on the CPU: masks, geometry and the develop pipeline."""
