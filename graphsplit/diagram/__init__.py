"""Pictures of models, plans and parts, as SVG without any library, and what notebooks show."""
