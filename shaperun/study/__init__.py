"""Study files: parsing, validation and their JSON Schema. Internal."""
