"""Where to cut and what crosses: cuts, presets, the minimum cut, the planner. Pure; knows no format."""
